"""Processes: what waits for events, sends commands and sets timers, and ends."""

from twofold.processes.process import Process
from twofold.processes.scheduled_commands import ScheduledCommands
from twofold.processes.triggers import Done, Refusal, after, at, cancel, done, due, evolve, on, refused, starts

__all__ = [
    "Done",
    "Process",
    "Refusal",
    "ScheduledCommands",
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
