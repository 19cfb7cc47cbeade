"""The schema lock: what events look like as they are stored, kept in a file, and compared with the code of today."""

from twofold.schema.lock import LockedType, SchemaLock, lock_types, read_lock, write_lock
from twofold.schema.rules import check_types
from twofold.schema.samples import (
    Sample,
    check_file,
    check_samples,
    read_samples,
    sample_log,
    samples_of,
    write_samples,
)

__all__ = [
    "LockedType",
    "Sample",
    "SchemaLock",
    "check_file",
    "check_samples",
    "check_types",
    "lock_types",
    "read_lock",
    "read_samples",
    "sample_log",
    "samples_of",
    "write_lock",
    "write_samples",
]
