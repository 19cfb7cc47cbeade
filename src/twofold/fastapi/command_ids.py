"""Idempotency keys become command ids."""

from __future__ import annotations

from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid5

from fastapi import Depends, Header
from twofold.messages.command import Command


def _command_id(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Makes a repeat of the request harmless: it takes effect once, and is answered alike.",
            min_length=1,
            max_length=200,
            examples=["0198c7a1-5f0e-7c3e-9a57-3d1f0a4be001"],
        ),
    ] = None,
) -> UUID:
    if idempotency_key is None:
        return Command().command_id
    try:
        return UUID(idempotency_key)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"idempotency-key:{idempotency_key}")


CommandId = Annotated[UUID, Depends(_command_id)]
"""The id for a command, as an endpoint's parameter: from the header `Idempotency-Key` if there is one, else a new one.

A key that is a UUID is the id itself. The same key with another content is answered with 422.
"""
