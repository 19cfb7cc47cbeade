"""The read database on SQLite."""
