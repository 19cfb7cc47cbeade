"""The rows of a keyed projection: their type, its columns, and those that need not be read again."""
