"""How streams end: closed, or tombstoned."""
