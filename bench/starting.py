"""What a process costs until it can begin: the seconds of the processor for importing, in turns, the least of each.

`make bench ARGS=import`
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

ROUNDS = 9
CASES = {
    "Python alone": ("-c", "pass"),
    "import asyncio": ("-c", "import asyncio"),
    "import twofold": ("-c", "import twofold"),
    "import twofold.fastapi": ("-c", "import twofold.fastapi"),
    "import twofold.dashboard": ("-c", "import twofold.dashboard"),
    "import twofold.cli": ("-c", "import twofold.cli"),
    "twofold --help": ("-m", "twofold", "--help"),
}


def main() -> None:
    costs: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(ROUNDS):
        for case, arguments in CASES.items():
            costs[case].append(_seconds(arguments))
    print("| what | ms of processor time |\n|---|---|")
    for case, found in costs.items():
        print(f"| `{case}` | {min(found) * 1000:,.0f} |")


def _seconds(arguments: tuple[str, ...]) -> float:
    before = _used()
    keeps_bytecode = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=keeps_bytecode)
    return _used() - before


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
