"""Stored snapshots on PostgreSQL; see `SnapshotLog`. Each call is one statement, which may be put twice."""

from __future__ import annotations

from uuid import UUID

from twofold.engines.postgres.log.queries import query as named
from twofold.engines.postgres.log.reader import Reader
from twofold.engines.postgres.log.selection import END
from twofold.ports.snapshots import FoundSnapshot, Snapshot


async def find(reader: Reader, fold: str, subject: str) -> FoundSnapshot:
    """Do what `SnapshotLog.find_snapshot` promises."""
    [(times, *row)] = await reader.rows(named("find_snapshot"), {"fold": fold, "subject": subject})
    return FoundSnapshot(None if row[0] is None else Snapshot._make(row), times)


async def tag_changes(reader: Reader) -> int:
    """Do what `SnapshotLog.tag_changes` promises."""
    [(times,)] = await reader.rows(named("tag_changes"), {})
    return int(times)


async def save(reader: Reader, snapshot: Snapshot, instead_of: int | None) -> bool:
    """Do what `SnapshotLog.save_snapshot` promises."""
    event_id, state = UUID(bytes=snapshot.event_id), snapshot.state.decode()
    columns = snapshot._asdict() | {"event_id": event_id, "state": state, "instead_of": instead_of}
    return bool(await reader.rows(named("save_snapshot"), columns))


async def read(reader: Reader, after: tuple[str, str], limit: int) -> list[Snapshot]:
    """Do what `SnapshotLog.read_snapshots` promises."""
    arguments = {"fold": after[0], "subject": after[1], "limit": min(limit, END)}
    return list(map(Snapshot._make, await reader.rows(named("read_snapshots"), arguments)))


async def delete(reader: Reader, fold: str | None, subject: str | None, patience: float) -> int:
    """Do what `SnapshotLog.delete_snapshots` promises."""
    [(deleted,)] = await reader.rows(named("delete_snapshots"), {"fold": fold, "subject": subject}, limit=patience)
    return int(deleted)
