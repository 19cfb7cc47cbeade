"""Asking: the query bus, read models, and waiting for consistency."""
