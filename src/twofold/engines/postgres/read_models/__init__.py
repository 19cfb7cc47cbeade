"""The read database on PostgreSQL."""
