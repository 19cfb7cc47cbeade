"""The keys of persons in this process: read from their store, unwrapped, and dropped when destroyed."""
