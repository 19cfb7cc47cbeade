"""Entity tags are versions of streams: `ETag: "3"`, `If-Match: "3"`, `If-None-Match: "3"`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message

from fastapi import Depends, Header, HTTPException
from twofold.arguments import check_whole
from twofold.messages.stream import STREAM_EXISTS, ExpectedVersion

_OF_THE_BODY = ("content-length", "content-type", "content-encoding")
_SENT = re.compile(r'\s*(?:\*|(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e]*)")\s*')


class InvalidPreconditionError(Exception):
    """A precondition that cannot be understood."""


class FailedPreconditionError(Exception):
    """A precondition that no version of any stream fulfils."""


def etag(version: int) -> str:
    """Return the entity tag of a version, for the `ETag` of a response that shows it."""
    check_whole("version", version)
    return f'"{version}"'


def expected_version(if_match: str) -> ExpectedVersion:
    """Return what the header `If-Match` expects of the stream.

    Raises:
        InvalidPreconditionError: it is not as RFC 9110 has it, or names several tags.
        FailedPreconditionError: the tag is none that a response of ours can have carried.
    """
    sent = _SENT.fullmatch(if_match)
    if sent is None:
        raise InvalidPreconditionError('If-Match takes one entity tag, such as "3" with the quotation marks, or *')
    tag = sent["tag"]
    if tag is None:
        return STREAM_EXISTS
    if sent["weak"] or not re.fullmatch(r"0|[1-9][0-9]{0,17}", tag):
        raise FailedPreconditionError(f"the entity tag {if_match.strip()} is none of a version; read the thing again")
    return int(tag)


def is_known(message: Message, if_none_match: str) -> bool:
    """Make a response one of 304 if the client has it already, as its `ETag` tells; return whether that is so.

    Args:
        message: the head of the response, which is changed.
        if_none_match: what the client has.
    """
    headers = MutableHeaders(scope=message)
    if message["status"] != 200 or not _matches(if_none_match, headers.get("etag", "")):
        return False
    message["status"] = 304
    for name in _OF_THE_BODY:
        del headers[name]
    return True


def _matches(if_none_match: str, tag: str) -> bool:
    """Return whether a tag is among those of the header, by the weak comparison of RFC 9110."""
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return bool(tag) and (tag.removeprefix("W/") in known or known == ["*"])


def _if_match_required(
    if_match: Annotated[str | None, Header(description="The `ETag` of what the change is meant for.")] = None,
) -> None:
    if if_match is None:
        raise HTTPException(428, "send If-Match with the ETag of the thing as you have seen it last")


IF_MATCH_REQUIRED: Any = Depends(_if_match_required)
"""Refuse a change without `If-Match` with 428: `@api.put(…, dependencies=[IF_MATCH_REQUIRED])`."""
