"""How streams end: closed, or tombstoned; and retention, which ends them by rules."""
