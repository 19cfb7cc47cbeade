"""Forgets persons: destroys their keys, and folds again what was made of their events."""
