"""Commands that end streams by rules."""
