"""The promises of `twofold.ports.event_log.EventLog`, one test for each.

An adapter passes when a subclass of `EventLogConformance` is green:

    class TestMyEventLog(EventLogConformance):
        @pytest_asyncio.fixture
        async def log(self, tmp_path):
            log = MyEventLog(tmp_path / "events")
            await log.open()
            yield log
            await log.close()

        @pytest.fixture
        def another(self, tmp_path):
            return lambda: MyEventLog(tmp_path / "events")
"""

from __future__ import annotations

from collections.abc import Callable

try:
    import pytest
except ImportError as error:
    raise ImportError(
        "twofold.testing.EventLogConformance is a pytest suite; `pip install pytest pytest-asyncio`"
    ) from error

from twofold.ports.event_log import EventLog
from twofold.testing.event_log_suite.appends import AppendPromises
from twofold.testing.event_log_suite.concurrency import ConcurrencyPromises
from twofold.testing.event_log_suite.conditions import ConditionPromises
from twofold.testing.event_log_suite.endings import EndingPromises
from twofold.testing.event_log_suite.following import FollowingPromises
from twofold.testing.event_log_suite.lifetime import LifetimePromises
from twofold.testing.event_log_suite.reads import ReadPromises
from twofold.testing.event_log_suite.repeats import RepeatPromises
from twofold.testing.event_log_suite.scans import ScanPromises
from twofold.testing.event_log_suite.versions import VersionPromises

__all__ = ["EventLogConformance"]


class EventLogConformance(
    AppendPromises,
    VersionPromises,
    ConditionPromises,
    EndingPromises,
    RepeatPromises,
    ConcurrencyPromises,
    ReadPromises,
    ScanPromises,
    FollowingPromises,
    LifetimePromises,
):
    """Subclass it, override the fixture `log` and, where data outlives the object, `another`."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def log(self) -> EventLog:
        """Return an opened, empty log; close it afterwards."""
        raise NotImplementedError(f"{type(self).__name__} overrides the fixture `log`: an opened, empty EventLog")

    @pytest.fixture
    def another(self) -> Callable[[], EventLog]:
        """Return a function that gives a further log, not yet opened, on the same data as `log`."""
        pytest.skip("the data of this log does not outlive the object")
