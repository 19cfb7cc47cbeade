"""Accounts and baskets by hand, for the floors: what is the same on every driver."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from zlib import crc32

import msgspec

Row = tuple[str, str, Decimal, int, str]


class Moved(msgspec.Struct):
    account: str
    amount: Decimal
    currency: str
    kind: str
    reference: str
    merchant: str
    country: str
    terminal: str
    booked_by: str


class ItemAdded(msgspec.Struct):
    basket_id: str
    product_id: str
    description: str
    quantity: int
    unit_price: str
    currency: str
    country: str
    warehouse: str
    campaign: str


decode = msgspec.json.Decoder(Moved).decode
decode_item = msgspec.json.Decoder(ItemAdded).decode


def decoded(payloads: Iterable[str], share: tuple[int, int]) -> list[Moved]:
    """Return the movements of a worker's share, as those of one worker among several."""
    number, workers = share
    events = map(decode, payloads)
    return [each for each in events if workers == 1 or crc32(each.account.encode()) % workers == number]


def fold(rows: dict[str, Row], events: Sequence[Moved]) -> list[Row]:
    """Fold movements over the rows that there are, and return those that changed."""
    changed: dict[str, Row] = {}
    for event in events:
        account = event.account
        row = changed.get(account) or rows.get(account) or (account, event.currency, Decimal(0), 0, "")
        changed[account] = (account, row[1], row[2] + event.amount, row[3] + 1, event.reference)
    return list(changed.values())


def in_processes(workers: int, work: Callable[[tuple[int, int]], None]) -> float:
    """Run `work((number, workers))` in as many processes at once, and return the seconds that the slowest takes."""
    if workers == 1:
        start = time.perf_counter()
        work((0, 1))
        return time.perf_counter() - start
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=((number, workers),)) for number in range(workers)]
    start = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise AssertionError(f"a worker failed with exit code {process.exitcode}")
    return time.perf_counter() - start
