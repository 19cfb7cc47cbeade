"""How often a thread waits for the disk."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

try:
    import resource as _resource
except ImportError:  # on Windows
    _resource = None  # type: ignore[assignment]


def wait_counter(path: Path) -> Callable[[], float]:
    """Return what tells how often this thread has waited for the disk that a file is on.

    A read that takes long for want of the processor, which other programs or the limits of a container keep from this
    thread, or of Python's lock, would take as long in any other thread. Where the file is on a block device, Linux
    counts the blocks that a thread waits for; of network and other file systems, only how often it waits. NaN differs
    from itself, as a count that has grown, where the platform counts for no single thread.
    """
    of_thread: int | None = getattr(_resource, "RUSAGE_THREAD", None)
    if _resource is None or of_thread is None:
        return lambda: math.nan
    getrusage = _resource.getrusage
    if sys.platform == "linux" and os.major(path.stat().st_dev):
        return lambda: getrusage(of_thread).ru_inblock
    return lambda: getrusage(of_thread).ru_nvcsw
