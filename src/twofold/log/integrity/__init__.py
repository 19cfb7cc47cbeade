"""Whether a log is what it was: each check names what is damaged and where; a chain of hashes finds what was forged."""
