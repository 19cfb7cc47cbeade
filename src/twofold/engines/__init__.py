"""The databases: one folder for each, whose files have the same names where they do the same."""
