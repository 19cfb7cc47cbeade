"""Files of JSON Lines: a header, a line for each event, one for each command, and a line that tells of all of them.

1. An export writes into `FILE.part`. Run again, it reads what is there, up to the first line that is not whole.
2. The last line has a digest of all others; then the file gets its name.
3. An import compares the digest before it believes a line. If it differs, it looks for the line that was changed.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO

import msgspec

from twofold.errors import LogFileError
from twofold.log.transfer.header import FORMAT, Header, Part, Trailer, Written
from twofold.log.transfer.lines import COMMANDS_BEGIN, command_lines, commands_of, encoder, event_lines, events_of
from twofold.messages.stored_event import StoredEvent, is_intact
from twofold.ports.maintenance import StoredCommand

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

TRAILER_BEGINS = b'{"events":'
_LONGEST_TRAILER = 1000


class JsonLinesWriter:
    """A `LogWriter` of lines.

    Args:
        path: of the file.
        part: bytes that are read at once of what is there already.
    """

    def __init__(self, path: Path, part: int) -> None:
        self._path, self._unfinished = path, unfinished(path)
        self._part = part
        self._file: IO[bytes] | None = None
        self._digest = blake2b(digest_size=16)
        self._events = self._commands = 0

    def begin(self, header: Header) -> tuple[Header, Written]:
        """Do what `LogWriter.begin` promises."""
        if self._path.exists():
            raise LogFileError(self._path, "it exists already; remove it, or name another file")
        self._file = file = self._unfinished.open("a+b")
        lock(file, self._path)
        file.seek(0)
        line = file.readline()
        if not line.endswith(b"\n"):
            file.truncate(0)
            self._put(encoder.encode(header) + b"\n")
            return header, Written()
        begun = parsed_header(self._unfinished, line)
        self._digest.update(line)
        return begun, self._take_up(begun, len(line))

    def write(self, events: Sequence[StoredEvent], commands: Sequence[StoredCommand]) -> None:
        """Do what `LogWriter.write` promises."""
        self._put(event_lines(events) if events else command_lines(commands))
        self._events, self._commands = self._events + len(events), self._commands + len(commands)

    def finish(self) -> Trailer:
        """Do what `LogWriter.finish` promises."""
        trailer = Trailer(events=self._events, commands=self._commands, digest=self._digest.hexdigest())
        self._put(encoder.encode(trailer) + b"\n")
        assert self._file is not None  # noqa: S101
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unfinished.rename(self._path)
        sync(self._path.parent)
        return trailer

    def close(self) -> None:
        """Do what `LogWriter.close` promises."""
        if self._file is not None:
            self._file.close()

    def _put(self, lines: bytes) -> None:
        assert self._file is not None  # noqa: S101
        self._file.write(lines)
        self._digest.update(lines)

    def _take_up(self, header: Header, begin: int) -> Written:
        """Read what an interrupted export has left, and cut off what is not whole."""
        assert self._file is not None  # noqa: S101
        found, end = Written(), begin
        while lines := self._file.readlines(self._part):
            whole, part = _whole(self._unfinished, lines)
            if (intact := count_intact(part.events, header, found.last)) < len(part.events):
                whole, part = whole[:intact], Part(part.path, 0, part.events[:intact], [])
            self._events, self._commands = self._events + len(part.events), self._commands + len(part.commands)
            found = Written(
                self._events,
                self._commands,
                part.events[-1] if part.events else found.last,
                part.commands[-1].command_id if part.commands else found.last_command,
            )
            self._digest.update(b"".join(whole))
            end += sum(map(len, whole))
            if len(whole) < len(lines):
                break
        self._file.seek(end)
        self._file.truncate()
        return found


class JsonLinesReader:
    """A `LogReader` of lines.

    Args:
        path: of the file.
        part: bytes that are read at once.

    Raises:
        LogFileError: it is no export, or the export was not finished.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, part: int) -> None:
        self.path = path
        self._part = part
        with path.open("rb") as file:
            first = file.readline(1 << 20)
            self.header = parsed_header(path, first)
            self._end = self._find_trailer(file)

    def check(self) -> None:
        """Do what `LogReader.check` promises."""
        digest, remaining = blake2b(digest_size=16), self._end
        with self.path.open("rb") as file:
            while remaining and (block := file.read(min(self._part, remaining))):
                digest.update(block)
                remaining -= len(block)
        if digest.hexdigest() == self.trailer.digest:
            return
        refuse_damaged(self.parts())
        raise LogFileError(self.path, "lines were changed, are missing or were added; export it again")

    def parts(self) -> Generator[Part]:
        """Do what `LogReader.parts` promises."""
        with self.path.open("rb") as file:
            file.readline()
            number = 2
            while lines := file.readlines(self._part):
                if file.tell() > self._end:
                    lines.pop()  # the trailer
                if not lines:
                    return
                whole, part = _whole(self.path, lines)
                if len(whole) < len(lines):
                    raise LogFileError(self.path, "it is no line of an export, or was changed", number + len(whole))
                yield part._replace(place=number)
                number += len(lines)

    def _find_trailer(self, file: IO[bytes]) -> int:
        """Read the last line, and return where it begins."""
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _LONGEST_TRAILER, 0))
        tail = file.read()
        begin = tail.rfind(b"\n" + TRAILER_BEGINS) + 1
        self.trailer = parsed_trailer(self.path, tail[begin:] if begin else b"")
        return size - len(tail) + begin


def unfinished(path: Path) -> Path:
    """Return where an export writes until it is done."""
    return path.with_name(f"{path.name}.part")


def parsed_header(path: Path, line: bytes) -> Header:
    """Return the header of a file.

    Raises:
        LogFileError: it has none, or one of another release.
    """
    with suppress(ValueError):
        if (known := msgspec.json.decode(line, type=_AnyHeader).twofold_log) > FORMAT:
            raise LogFileError(path, f"it has format {known}, this release reads up to {FORMAT}; update twofold", 1)
        return msgspec.json.decode(line, type=Header)
    raise LogFileError(path, "it is no export of a log: its first line does not say so", 1)


def parsed_trailer(path: Path, line: bytes) -> Trailer:
    """Return what a file says of itself at its end.

    Raises:
        LogFileError: it does not.
    """
    with suppress(ValueError):
        if line.endswith(b"\n"):
            return msgspec.json.decode(line, type=Trailer)
    raise LogFileError(path, "its end is missing: the export was not finished, or was cut off")


def sync(path: Path) -> None:
    """Make a file durable, or the names of the files in a folder."""
    with suppress(OSError):  # where folders cannot be opened, as on Windows
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def count_intact(events: Sequence[StoredEvent], header: Header, last: StoredEvent | None) -> int:
    """Return how many events, from the first on, match their checksums and follow the one before.

    Args:
        events: what is looked at.
        header: says whether events may be left out between them.
        last: the event before them.
    """
    after, is_whole = last.position if last else header.after, header.query.is_all
    for count, row in enumerate(events):
        if row.position <= after or (is_whole and row.position > after + 1) or not is_intact(row):
            return count
        after = row.position
    return len(events)


def refuse_damaged(parts: Iterable[Part]) -> None:
    """Look for an event that does not match its checksum.

    Raises:
        LogFileError: there is one; or a line cannot be read.
    """
    for part in parts:
        for place, row in enumerate(part.events, part.place):
            if not is_intact(row):
                raise LogFileError(part.path, f"event {row.position} was changed or is damaged", place)


class _AnyHeader(msgspec.Struct):
    twofold_log: int


def lock(file: IO[bytes], path: Path) -> None:
    """Keep other processes from writing to the same file."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LogFileError(path, "another process exports to it") from None


def _whole(path: Path, lines: list[bytes]) -> tuple[list[bytes], Part]:
    """Return the rows of lines up to the first that is none of an event or a command, and those lines."""
    first = next((n for n, line in enumerate(lines) if line.startswith(COMMANDS_BEGIN)), len(lines))
    with suppress(ValueError):
        return lines, _part(path, lines, first)
    fitting = 0
    with suppress(ValueError):
        for line in lines:
            _part(path, [line], 0 if fitting >= first else 1)
            fitting += 1
    return lines[:fitting], _part(path, lines[:fitting], min(first, fitting))


def _part(path: Path, lines: list[bytes], first: int) -> Part:
    """Return rows; the lines from the first on are of commands.

    Raises:
        ValueError: a line is none of that.
    """
    if lines and not lines[-1].endswith(b"\n"):
        raise ValueError
    events = events_of(b"".join(lines[:first])) if first else []
    return Part(path, 0, events, commands_of(b"".join(lines[first:])))
