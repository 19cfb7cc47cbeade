"""What applications and adapters are tested with: scenarios, exploration, conformance suites and races.

The suites need pytest with pytest-asyncio, the state machine needs hypothesis; nothing else of Twofold does.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twofold.testing.event_log_suite import EventLogConformance
    from twofold.testing.exploration import Explored, explore
    from twofold.testing.key_store_suite import KeyStoreConformance
    from twofold.testing.model import event_log_machine
    from twofold.testing.portable_log_suite import PortableLogConformance
    from twofold.testing.race import Race
    from twofold.testing.read_database_suite import ReadDatabaseConformance
    from twofold.testing.scenarios import scenario
    from twofold.testing.scenarios.claims import UnfinishedScenarioWarning
    from twofold.testing.scenarios.history import Stored
    from twofold.testing.snapshot_log_suite import SnapshotLogConformance

__all__ = [
    "EventLogConformance",
    "Explored",
    "KeyStoreConformance",
    "PortableLogConformance",
    "Race",
    "ReadDatabaseConformance",
    "SnapshotLogConformance",
    "Stored",
    "UnfinishedScenarioWarning",
    "event_log_machine",
    "explore",
    "scenario",
]

_HOMES = {
    "EventLogConformance": "twofold.testing.event_log_suite",
    "Explored": "twofold.testing.exploration",
    "KeyStoreConformance": "twofold.testing.key_store_suite",
    "PortableLogConformance": "twofold.testing.portable_log_suite",
    "Race": "twofold.testing.race",
    "event_log_machine": "twofold.testing.model",
    "explore": "twofold.testing.exploration",
    "ReadDatabaseConformance": "twofold.testing.read_database_suite",
    "Stored": "twofold.testing.scenarios.history",
    "UnfinishedScenarioWarning": "twofold.testing.scenarios.claims",
    "scenario": "twofold.testing.scenarios",
    "SnapshotLogConformance": "twofold.testing.snapshot_log_suite",
}

if pytest := sys.modules.get("pytest"):  # failed assertions of the suite then show their values
    pytest.register_assert_rewrite(
        "twofold.testing.event_log_suite",
        "twofold.testing.judge",
        "twofold.testing.key_store_suite",
        "twofold.testing.model",
        "twofold.testing.portable_log_suite",
        "twofold.testing.read_database_suite",
        "twofold.testing.snapshot_log_suite",
    )


def __getattr__(name: str) -> Any:
    """Import on first use, so that each part asks only for the packages that it needs itself."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
