"""Which rows an event is about: one by its key, several by a list of keys, or those that a value finds."""
