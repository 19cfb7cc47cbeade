"""Programs that are killed at random points, some at once, again and again."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess


def kill_many(
    program: Callable[[Connection], BaseProcess],
    chance: random.Random,
    rounds: int,
    *,
    at_once: int = 2,
    longest_life: float,
) -> list[bytes]:
    """Start programs at once, again and again, kill each at a random point; return what they acknowledged.

    Args:
        program: makes a program that tells by a connection that it lives, and then what was acknowledged.
        chance: says when each dies.
        rounds: how often some are started.
        at_once: how many.
        longest_life: seconds after which a program that lives is killed, at the latest, beside those before it.
    """
    acknowledged: list[bytes] = []
    for _ in range(rounds):
        victims = []
        for _ in range(at_once):
            here, there = multiprocessing.Pipe(duplex=False)
            victim = program(there)
            victim.start()
            there.close()
            victims.append((victim, here))
        for victim, here in victims:
            here.poll(10)  # it lives
            time.sleep(chance.uniform(0, longest_life))  # the point at which it dies
            victim.kill()
            victim.join()
            acknowledged += _received(here)
    return acknowledged


def _received(connection: Connection) -> list[bytes]:
    """Return what a process sent before it died; the last message may be cut short."""
    messages = []
    try:
        while True:
            messages.append(connection.recv_bytes())
    except (EOFError, OSError):
        return messages
