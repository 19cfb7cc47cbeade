"""What is said, as plain data without I/O: commands, queries, events, and what a write returns."""
