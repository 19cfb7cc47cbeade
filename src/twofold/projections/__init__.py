"""Folding: projections and reactions, and how each kind is run."""
