"""Run benchmarks: `python -m bench append load read [--engine sqlite] [--against REF] [--write]`."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import page, privacy, report, servers, starting
from bench.benchmarks import BENCHMARKS, Settings, run
from bench.contenders import BEFORE, FLOOR, OURS, PEERS, Entry, entries
from bench.results import STORED, Result, stored

ENGINES = ("sqlite", "postgres")


def main() -> None:
    alone = {"privacy": privacy.main, "import": starting.main}
    if len(sys.argv) == 2 and sys.argv[1] in alone:
        alone[sys.argv[1]]()
        return
    arguments = _parse()
    settings = Settings(arguments.rounds, arguments.seconds, arguments.events, tuple(arguments.sizes))
    peers = None if arguments.no_peers else servers.peers_python()
    if peers is None and not arguments.no_peers:
        print("bench: the peers could not be installed (no network?); going on without them", file=sys.stderr)
    before = servers.checkout(arguments.against) if arguments.against else None
    if not arguments.json:
        print(report.heading(), flush=True)
    results, load = list[Result](), os.getloadavg()[0]
    with ExitStack() as stack:
        place = _directory(stack)
        files = _files(place)
        databases = stack.enter_context(servers.postgres(place / "pg")) if "postgres" in arguments.engine else files
        for name, engine in itertools.product(arguments.benchmarks, arguments.engine):
            competitors = [
                e for e in entries(name, engine, files, databases, peers, before) if _wanted(e, arguments.only)
            ]
            for result in run(name, engine, competitors, settings) if competitors else ():
                print(report.as_json(result) if arguments.json else report.as_rows(result), flush=True)
                results.append(result)
    if arguments.write:
        _keep(results, load)


def _keep(results: list[Result], load: float) -> None:
    kept = stored().with_new(results, tuple(BENCHMARKS), load)
    STORED.write_text(kept.to_json(), "utf-8")
    page.write(kept)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument(
        "benchmarks", nargs="*", default=list(BENCHMARKS), metavar="benchmark", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--json", action="store_true", help="one object per line instead of a table")
    parser.add_argument(
        "--write", action="store_true", help="keep the results in bench/results.json, and write the page and the charts"
    )
    parser.add_argument("--rounds", type=int, default=5, help="medians are taken of so many rounds")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one append measurement")
    parser.add_argument("--events", type=int, default=50_000, help="length of the log that is read")
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=(100_000, 1_000_000), help="lengths of the log, for `growth`"
    )
    parser.add_argument("--only", nargs="+", choices=(OURS, BEFORE, FLOOR, *PEERS), help="measure these contenders")
    parser.add_argument("--against", metavar="REF", help="measure Twofold at another revision in turns with this one")
    parser.add_argument("--no-peers", action="store_true", help="only the product and the floor")
    arguments = parser.parse_args()
    if arguments.write and (arguments.only or arguments.no_peers or arguments.against):
        parser.error("--write keeps what all contenders did, in one run and without another revision")
    if unknown := set(arguments.benchmarks) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    return arguments


def _wanted(entry: Entry, only: list[str] | None) -> bool:
    return not only or entry.name in only


def _directory(stack: ExitStack) -> Path:
    """Return a new directory beside the project, not in /tmp, which may be no disk at all."""
    servers.CACHE.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=servers.CACHE))
    place.chmod(0o755)
    stack.callback(shutil.rmtree, place, ignore_errors=True)
    return place


def _files(place: Path) -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: str(place / f"log-{next(numbers)}")


if __name__ == "__main__":
    main()
