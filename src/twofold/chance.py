"""Chance that leaves the `random` module alone: an application may have seeded that, and counts on what follows."""

from random import SystemRandom

CHANCE = SystemRandom()
"""Differs from process to process, also if one was forked from the other."""
