"""CQRS and event sourcing for Python: one append-only log, read models folded from it."""
