"""The rules by which today's classes are compared with the lock; each finding has a code that stays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set

from twofold.arguments import check_instance
from twofold.checks.findings import Finding
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.payload import PayloadCodec
from twofold.log.event_fields import marked_fields
from twofold.schema.differences import differences, reads_all, renamed
from twofold.schema.lock import Known, LockedType, SchemaLock, known_types, locked_tags
from twofold.schema.shapes import read_schema, stored_schema


def check_types(events: EventTypes, lock: SchemaLock, stream_types: Collection[str] | None = None) -> list[Finding]:
    """Return where today's classes do not read what was stored, or yesterday's would not read what is stored today.

    Args:
        events: today's classes.
        lock: what was stored.
        stream_types: of today's aggregates and deciders; None compares none.

    Raises:
        TypeError: an argument is of another type.
        InvalidMessageTypeError: a class has a field of which no JSON Schema tells.
        ModuleNotFoundError: the extra `twofold[schema]` is not installed.
    """
    check_instance("events", events, EventTypes)
    check_instance("lock", lock, SchemaLock)
    known, findings = known_types(events), list[Finding]()
    for name, locked in lock.types.items():
        if name in known:
            findings += _of_type(name, known[name], locked)
        else:
            findings.append(Finding(code="TF301", subject=name, text=f"No class or RetiredType has the name {name}."))
    for name, each in known.items():
        if each.codec and name == each.declared.name and name not in lock.types:
            findings.append(Finding(code="TF309", subject=name, text=f"The events of {name} are not in the lock."))
    return [*findings, *(_of_streams(set(stream_types), lock) if stream_types is not None else ())]


def _of_streams(known: Set[str], lock: SchemaLock) -> Iterator[Finding]:
    """Yield where streams are stored under a type that nothing has, or have one that is not in the lock.

    A stream keeps its name for ever: of two names that would be read as one, each could be appended to, by old code and
    by new, with the same versions.
    """
    for name in sorted(set(lock.stream_types) - known):
        text = f"No aggregate and no decider has streams of the type {name}."
        yield Finding(code="TF310", subject=name, text=text)
    for name in sorted(known - set(lock.stream_types)):
        yield Finding(code="TF309", subject=name, text=f"The streams of the type {name} are not in the lock.")


def _of_type(name: str, known: Known, locked: LockedType) -> Iterator[Finding]:
    version = known.declared.version
    if newest := max((each for each in map(int, locked.schemas) if each > version), default=0):
        text = f"Version {newest} of {name} is stored, and the newest that the code knows is {version}."
        yield Finding(code="TF306", subject=name, text=text)
        return
    if known.codec is None:
        return
    if str(version) in locked.schemas:
        yield from _of_version(name, known.codec, locked)
    else:
        text = f"Version {version} of {name} is not in the lock; processes that do not know it stop at such events."
        yield Finding(code="TF309", subject=name, text=text)
    yield from _of_fields(name, known.codec, locked)


def _of_version(name: str, codec: PayloadCodec, locked: LockedType) -> Iterator[Finding]:
    """Yield what is wrong with a class that writes the version that was locked."""
    was, what = locked.schemas[str(codec.stored.version)], f"{name} version {codec.stored.version}"
    now, reader = stored_schema(codec.cls), read_schema(codec.cls)
    if now == was:
        return
    if names := renamed(reader, was):
        text = f"{what}: the stored field {names[0][0]} is gone, and {names[0][1]} would be its default."
        yield Finding(code="TF304", subject=name, text=text)
    elif not reads_all(reader, was):
        text = f"{what}: stored payloads are not read any more: {'; '.join(differences(reader, was))}."
        yield Finding(code="TF302", subject=name, text=text)
    elif not reads_all(was, now):
        text = f"{what}: yesterday's code does not read what today's writes: {'; '.join(differences(was, now))}."
        yield Finding(code="TF303", subject=name, text=text)
    else:
        yield Finding(code="TF309", subject=name, text=f"{what} has changed, and both sides read each other's events.")


def _of_fields(name: str, codec: PayloadCodec, locked: LockedType) -> Iterator[Finding]:
    tags = locked_tags(codec)
    if name == codec.stored.name and tags != locked.tags:
        text = f"{name} was locked with {_told(locked.tags)}, and has {_told(tags)}."
        yield Finding(code="TF305", subject=name, text=text)
    for field in sorted(set(locked.personal) - set(marked_fields(codec.cls, "Personal"))):
        text = f"The field {field} of {name} was personal, and is not any more."
        yield Finding(code="TF307", subject=name, text=text)


def _told(tags: dict[str, list[str]]) -> str:
    told = [f"{tag} of {field}" for field, its in tags.items() for tag in its]
    return f"the tags {', '.join(told)}" if told else "no tags"
