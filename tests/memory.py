"""Where tests keep what need not outlive a power cut: in memory, where no test waits for a disk that others use."""

from __future__ import annotations

import shutil
from pathlib import Path

_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30
"""Where a folder is in memory, and bytes that must be free there."""


def folder_in_memory() -> Path | None:
    """Return a folder that lies in memory, if there is one with room."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM else None
