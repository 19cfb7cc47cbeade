"""Checks of an application: what is declared and never used, asked for and never there, each with a stable code."""
