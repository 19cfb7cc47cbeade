"""Folding events into states: streams and decisions, what is kept and stored of them, and when that is believed."""
