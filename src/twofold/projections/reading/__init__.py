"""Projections that read others: what may read what, the fold of all of them together, and what runs it."""
