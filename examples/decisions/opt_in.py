"""Double opt-in: a sign-up counts once its token comes back, within an hour, and a token is good for one sign-up.

After <https://dcb.events/examples/opt-in-token/>: the tokens need no table of their own, and no clean-up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

from twofold import Application, AwareDatetime, Command, DecisionModel, Event, EventQuery, Tag

GOOD_FOR = timedelta(hours=1)
"""How long a token is accepted."""


class TokenError(Exception):
    """There is no such token, it was used, or it came too late."""


@dataclass(frozen=True, kw_only=True)
class SignUpInitiated(Event):
    """A letter with a token is on its way to a person who wants to sign up."""

    token: Annotated[str, Tag("token")]
    email: Annotated[str, Tag("email")]
    initiated_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class SignUpConfirmed(Event):
    """The token came back from the address."""

    token: Annotated[str, Tag("token")]
    email: Annotated[str, Tag("email")]


@dataclass(frozen=True, kw_only=True)
class InitiateSignUp(Command[None]):
    """Begin to sign up; the token is secret, and the caller draws it."""

    token: str
    email: str


@dataclass(frozen=True, kw_only=True)
class ConfirmSignUp(Command[str]):
    """Give the token of the letter back; returns the address that is confirmed by that."""

    token: str


@dataclass(frozen=True)
class Pending:
    """What is known of a token."""

    email: str
    good_until: datetime
    is_used: bool = False


def sign_up(token: str) -> DecisionModel[Pending | None]:
    """Return the model of the sign-up that a token belongs to; None if there is none."""

    def evolve(pending: Pending | None, event: SignUpInitiated | SignUpConfirmed) -> Pending | None:
        if isinstance(event, SignUpInitiated):
            return Pending(event.email, event.initiated_at + GOOD_FOR)
        return replace(pending, is_used=True) if pending else None

    query = EventQuery.of(SignUpInitiated, SignUpConfirmed, tags=[f"token:{token}"])
    return DecisionModel(query=query, initial_state=None, evolve=evolve)


def wire(app: Application) -> None:
    """Register the events and the handlers."""
    app.store.events.register(SignUpInitiated, SignUpConfirmed)

    async def initiate(command: InitiateSignUp) -> None:
        if (await app.store.decide(sign_up(command.token))).state is not None:
            raise TokenError("draw another token")
        event = SignUpInitiated(token=command.token, email=command.email, initiated_at=command.timestamp)
        await app.store.append([event])

    async def confirm(command: ConfirmSignUp) -> str:
        pending = (await app.store.decide(sign_up(command.token))).state
        if pending is None:
            raise TokenError("there is no such token")
        if pending.is_used:
            raise TokenError("the token was used")
        if command.timestamp >= pending.good_until:
            raise TokenError("the token came too late")
        await app.store.append([SignUpConfirmed(token=command.token, email=pending.email)])
        return pending.email

    app.commands.register(InitiateSignUp, initiate)
    app.commands.register(ConfirmSignUp, confirm)
