"""Processes: what waits for events, sends commands and sets timers, and ends."""

from twofold.processes.process import Process
from twofold.processes.triggers import Done, Refusal, after, at, cancel, done, due, evolve, on, refused, starts

__all__ = [
    "Done",
    "Process",
    "Refusal",
    "after",
    "at",
    "cancel",
    "done",
    "due",
    "evolve",
    "on",
    "refused",
    "starts",
]
