"""Programs of Debian that the machine lacks: fetched and unpacked, not installed, so that no service starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

LIBRARIES = "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib"


class ProgramMissingError(Exception):
    """This machine neither has a program nor can fetch it."""


class Program(NamedTuple):
    """A program, and the environment that it needs."""

    path: str
    environment: Mapping[str, str]


_FOLDERS: list[Path] = []
"""Where packages were unpacked, for as long as this process runs tests."""


@cache
def find_program(name: str, *libraries: str) -> Program:
    """Return the machine's own program, or one of the package of its name, which is fetched once in a process.

    Args:
        name: of the program and of its package.
        libraries: packages of libraries that a machine may lack.

    Raises:
        ProgramMissingError: neither is to be had; the text says why.
    """
    if own := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"):
        return Program(own, os.environ)
    folder = Path(tempfile.mkdtemp(prefix=f"twofold-{name}-"))
    _FOLDERS.append(folder)
    try:
        _download(name, folder)
        for library in libraries:
            if not _is_installed(library):
                _download(library, folder)
        for package in folder.glob("*.deb"):
            _run("dpkg-deb", "-x", str(package), str(folder))
        [path] = [each for each in folder.glob(f"usr/*/{name}") if each.parent.name in ("bin", "sbin")]
        _run("chmod", "-R", "a+rX", str(folder))  # an unprivileged user runs it
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise ProgramMissingError(
            f"{name} is not installed, and cannot be fetched from Debian: {said.strip()}"
        ) from error
    return Program(str(path), {**os.environ, "LD_LIBRARY_PATH": ":".join(str(folder / each) for each in LIBRARIES)})


def remove_programs() -> None:
    """Delete what was fetched."""
    find_program.cache_clear()
    while _FOLDERS:
        shutil.rmtree(_FOLDERS.pop(), ignore_errors=True)


def _is_installed(package: str) -> bool:
    return subprocess.run(["dpkg", "-s", package], capture_output=True, check=False).returncode == 0


def _download(package: str, folder: Path) -> None:
    try:
        _run("apt-get", "download", package, folder=folder)
    except subprocess.CalledProcessError:  # the machine has never looked what packages there are
        if os.geteuid() != 0:
            raise
        _run("apt-get", "update")
        _run("apt-get", "download", package, folder=folder)


def _run(*command: str, folder: Path | None = None) -> None:
    subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


def find_browser() -> str:
    """Return the path of Chromium or Chrome, which is installed first where only root has to be asked for that.

    Raises:
        ProgramMissingError: there is none, and it cannot be installed; the text says why.
    """
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    for name in names:
        if own := shutil.which(name):
            return own
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ProgramMissingError("no Chromium is installed; install it, or run this as root on Debian")
    install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium")
    try:
        try:
            _run(*install)
        except subprocess.CalledProcessError:  # the machine has never looked what packages there are
            _run("apt-get", "update")
            _run(*install)
    except subprocess.CalledProcessError as error:
        raise ProgramMissingError(f"Chromium cannot be installed from Debian: {error.stderr.strip()}") from error
    return shutil.which("chromium") or "chromium"
