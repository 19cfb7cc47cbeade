"""Real file systems for the tests of what a disk may do; only root can mount, everybody else skips."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """Mount something at a folder, with the arguments of `mount`, for as long as the block lasts."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder.mkdir(exist_ok=True)
    _run_or_skip("mount", *arguments, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Change an option of a mounted file system, such as `ro`."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


@contextmanager
def ext4(folder: Path, megabytes: int, options: str = "loop") -> Iterator[Path]:
    """Mount a new ext4 of this size; its image is a file beside the folder, `image_of(folder)`."""
    image = image_of(folder)
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    _run_or_skip("mkfs.ext4", "-q", "-m", "0", str(image))
    with mounted(folder, "-o", options, str(image)) as mount:
        yield mount


def image_of(folder: Path) -> Path:
    """Return the file that an `ext4` folder is an image of."""
    return folder.with_suffix(".img")


@contextmanager
def immutable(file: Path) -> Iterator[None]:
    """Forbid even root to write a file."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can make a file immutable, and root ignores the mode of a file")
    _run_or_skip("chattr", "+i", str(file))
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(file)], check=True)


def _run_or_skip(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    if done.returncode:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")
