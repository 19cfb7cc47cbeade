"""Processes of tests, each forked off one server that has imported what they need: it takes milliseconds.

A process of multiprocessing's own `spawn` imports all of it again, which takes a second of a processor.
"""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(  # here alone: another call would take the place of this one
    [
        "tests.campaigns.log.logs",
        "tests.campaigns.log.test_transfer_kills",
        "tests.campaigns.log.withdrawing",
        "tests.campaigns.processes.victim",
        "tests.campaigns.read_models.crew",
        "tests.campaigns.read_models.victim",
        "tests.engines.duckdb.killed",
        "twofold.engines.postgres",
        "twofold.engines.sqlite",
        "twofold.testing.race",
    ]
)
