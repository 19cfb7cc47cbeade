"""Retention: streams are ended by rules, as a plan that is shown and then applied."""
