"""The personal fields of a class of events: which they are, whose, and what is read of them after a forgetting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from twofold.errors import InvalidMessageTypeError
from twofold.log.codec.fidelity import field_names
from twofold.log.event_fields import declared_fields, is_pydantic, parts_of
from twofold.messages.event import Tag
from twofold.messages.personal import Personal, Subject
from twofold.messages.stored_event import MARKER


class PersonalField(NamedTuple):
    """A field that is stored encrypted."""

    attribute: str
    stored: str
    """Its name in the payload."""
    placeholder: msgspec.Raw
    """JSON."""


class PersonalGroup(NamedTuple):
    """The fields of one subject, which are encrypted together."""

    subject: str
    """The field that says whose they are."""
    fields: Sequence[PersonalField]


def personal_groups(cls: type) -> Sequence[PersonalGroup]:
    """Return the personal fields of a class, by their subjects; none if it has none.

    Raises:
        InvalidMessageTypeError: they cannot be as they are declared; the text names the field and the remedy.
    """
    hints = declared_fields(cls)
    for name, hint in hints.items():
        if _stored_name(cls, name) == MARKER:
            raise _refusal(cls, name, f"is stored as {MARKER!r}, which is Twofold's own; store it under another name")
        _refuse_within(f"{cls.__qualname__}.{name}", hint, is_field=True, seen=[cls])
    marked = {name: mark for name, hint in hints.items() for mark in _marks(hint, Personal)}
    subjects = [name for name, hint in hints.items() if any(_marks(hint, Subject))]
    groups: dict[str, list[PersonalField]] = {}
    for name, mark in marked.items():
        subject = _subject_of(cls, name, mark, subjects, hints)
        if subject in marked:
            raise _refusal(cls, subject, "is a subject, and personal itself; name an id without a meaning as subject")
        _refuse_tag(cls, name, mark, hints[name])
        groups.setdefault(subject, []).append(_field(cls, name, mark, hints[name]))
    if subjects and not groups:
        raise _refusal(cls, subjects[0], "is a Subject(), and no field is Personal(); mark those that are, or none")
    return [PersonalGroup(subject, fields) for subject, fields in groups.items()]


def blind_fields(cls: type) -> frozenset[str]:
    """Return the fields whose tags are digests."""
    return frozenset(
        name for name, hint in declared_fields(cls).items() if any(mark.blind for mark in _marks(hint, Personal))
    )


def _marks(hint: Any, kind: type[Any]) -> Iterator[Any]:
    return (extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, kind))


def _refuse_within(place: str, hint: Any, *, is_field: bool, seen: list[Any]) -> None:
    """Refuse a mark that is not on a field of the event itself."""
    for kind in () if is_field else (Personal, Subject):
        if any(_marks(hint, kind)):
            raise InvalidMessageTypeError(
                f"{place} is marked with {kind.__name__} within another field; only whole fields of the event can be: "
                f"write Annotated[…, {kind.__name__}()] around the type of that field"
            )
    if isinstance(hint, type) and hint not in seen and field_names(hint) is not None:
        seen.append(hint)
        for name, part in declared_fields(hint).items():
            _refuse_within(f"{place}.{name}", part, is_field=False, seen=seen)
    for part in parts_of(hint):
        _refuse_within(place, part, is_field=False, seen=seen)


def _subject_of(cls: type, name: str, mark: Personal, subjects: Sequence[str], hints: dict[str, Any]) -> str:
    if mark.subject is None and len(subjects) != 1:
        found = "several fields are a Subject()" if subjects else "no field is a Subject()"
        raise _refusal(
            cls, name, f'is personal, and {found}; write Annotated[str, Subject()] at one, or Personal(subject="…")'
        )
    subject = mark.subject or subjects[0]
    if subject not in hints:
        raise _refusal(cls, name, f"is personal, and its subject {subject!r} is no field of the event; name one")
    if not _is_id(hints[subject]):
        raise _refusal(cls, subject, "is a subject; its type is none of str, int and UUID; declare one of them")
    return subject


def _is_id(hint: Any) -> bool:
    parts = list(parts_of(hint))
    if parts:
        return all(part is type(None) or _is_id(part) for part in parts)
    return isinstance(hint, type) and issubclass(hint, str | int | UUID)


def _refuse_tag(cls: type, name: str, mark: Personal, hint: Any) -> None:
    is_tag = any(_marks(hint, Tag))
    if is_tag and not mark.blind:
        raise _refusal(
            cls, name, "is personal and a tag, which would be stored in plain text; tag the subject instead, or write "
            "Personal(blind=True), which makes the tag a digest",
        )  # fmt: skip
    if mark.blind and not is_tag:
        raise _refusal(cls, name, 'is Personal(blind=True) and no tag; write Annotated[str, Tag("…"), Personal(…)]')


def _field(cls: type, name: str, mark: Personal, hint: Any) -> PersonalField:
    try:
        placeholder = msgspec.json.encode(mark.placeholder)
        _load(cls, name, hint, placeholder)
    except Exception as error:  # of msgspec, of pydantic, or of the user's type
        raise _refusal(
            cls, name, f"has the placeholder {mark.placeholder!r:.60}, which the field does not admit ({error}); write "
            f"Personal(placeholder=…) with a value of its type",
        ) from error  # fmt: skip
    return PersonalField(name, _stored_name(cls, name), msgspec.Raw(placeholder))


def _load(cls: Any, name: str, hint: Any, placeholder: bytes) -> None:
    if is_pydantic(cls):
        from pydantic import TypeAdapter

        TypeAdapter(hint).validate_json(placeholder)
    else:
        msgspec.json.decode(placeholder, type=hint)


def _stored_name(cls: Any, name: str) -> str:
    if issubclass(cls, msgspec.Struct):
        names = zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)
        return str(dict(names).get(name, name))
    if is_pydantic(cls) and cls.model_config.get("serialize_by_alias"):
        field = cls.model_fields[name]
        return str(field.serialization_alias or field.alias or name)
    return name


def _refusal(cls: type, name: str, what: str) -> InvalidMessageTypeError:
    return InvalidMessageTypeError(f"{cls.__qualname__}.{name} {what}")
