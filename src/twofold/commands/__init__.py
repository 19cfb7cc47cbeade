"""Deciding: the command bus, aggregates, deciders, repositories."""
