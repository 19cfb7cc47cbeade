"""How events are stored and read again: names, payloads, tags, and the proof that nothing is lost between."""

from twofold.log.codec.event_types import EventTypes, encode_metadata

__all__ = ["EventTypes", "encode_metadata"]
