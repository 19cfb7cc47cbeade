"""Tenants: on whose behalf code runs, and what it may see.

1. Code runs on behalf of a tenant within `with twofold.metadata(tenant="acme")`, and on behalf of all of them within
   `with twofold.all_tenants()`.
2. Where something of an application with tenants is read or written, `current_tenant` says whose it is. Where neither
   block is open, it raises: nothing is read and nothing is stored.
3. Names become those of the tenant before anything else looks at them, so that no cache and no engine can confuse two
   tenants: see `tenant_names`. Ids that applications and clients choose become others, which follow from the id and the
   tenant, in one direction only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from msgspec.structs import replace

from twofold.errors import InvalidTenantError, TenantMissingError
from twofold.messages.context import context, current_metadata
from twofold.messages.event_query import AppendCondition, EventQuery, QueryItem
from twofold.messages.tenant_names import own_name, tenant_tag

_NONE_IS_SET = (
    'needs a tenant, and none is set; write `with twofold.metadata(tenant="acme"): ...` around it, in a web app in a '
    "middleware; code of operators writes `with twofold.all_tenants(): ...`"
)
_ONE_OF_ALL = (
    'needs one tenant, and this code runs on behalf of all; write `with twofold.metadata(tenant="acme"): ...` around it'
)
_NEEDS_ALL = (
    "concerns all tenants; where that is meant, and no tenant's request comes by, write "
    "`with twofold.all_tenants(): ...` around it"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_all_tenants: ContextVar[bool] = ContextVar("twofold_all_tenants", default=False)


@contextmanager
def all_tenants() -> Iterator[None]:
    """Run the block on behalf of all tenants: the door of operators, for reports, repairs and moves of data.

    What is read is everybody's; nothing can be appended, and no command carried out, as no tenant is named. A
    `with twofold.metadata(tenant="acme")` within the block is on behalf of that tenant again. In an application without
    tenants it changes nothing but the tenant of the metadata, which is none within the block.
    """
    token = _all_tenants.set(True)
    try:
        with context(metadata=replace(current_metadata(), tenant=None)):
            yield
    finally:
        _all_tenants.reset(token)


def current_tenant(what: str) -> str:
    """Return the tenant on whose behalf this code runs.

    Args:
        what: is about to be done, for the text of the error.

    Raises:
        TenantMissingError: it runs on behalf of none, or of all.
        InvalidTenantError: no tenant can have this name.
    """
    if (tenant := current_metadata().tenant) is None:
        raise TenantMissingError(what, _ONE_OF_ALL if _all_tenants.get() else _NONE_IS_SET)
    return checked_tenant(tenant)


def tenant_or_all(what: str) -> str:
    """Return the tenant on whose behalf this code runs, empty for all of them.

    Raises:
        TenantMissingError: it runs on behalf of none.
        InvalidTenantError: no tenant can have this name.
    """
    if (tenant := current_metadata().tenant) is None and _all_tenants.get():
        return ""
    return current_tenant(what) if tenant is None else checked_tenant(tenant)


def on_behalf() -> tuple[str | None, str | None, bool]:
    """Return the tenant and the user on whose behalf this code runs: what they are answered may differ by that."""
    known = current_metadata()
    return known.tenant, known.user, _all_tenants.get()


def require_all_tenants(what: str) -> None:
    """Refuse what concerns all tenants to code that does not say that it is on behalf of all.

    Raises:
        TenantMissingError: it does not.
    """
    if current_metadata().tenant is not None or not _all_tenants.get():
        raise TenantMissingError(what, _NEEDS_ALL)


@lru_cache(10_000)
def checked_tenant(name: str) -> str:
    """Return the name of a tenant.

    Raises:
        InvalidTenantError: no tenant can have it.
    """
    if not _NAME.fullmatch(name):
        raise InvalidTenantError(name)
    return name


def own_query(tenant: str, query: EventQuery) -> EventQuery:
    """Return a query that matches the events of one tenant which the given query matches."""
    own = [QueryItem(each.types, _own_tags(tenant, each.tags), each.sources) for each in query.items]
    return EventQuery(tuple(own))


def own_condition(tenant: str, condition: AppendCondition) -> AppendCondition:
    """Return a condition that looks at the events of one tenant."""
    return AppendCondition(own_query(tenant, condition.fail_if), condition.after)


def _own_tags(tenant: str, tags: Sequence[str]) -> tuple[str, ...]:
    return tuple(own_name(tenant, tag) for tag in tags) or (tenant_tag(tenant),)
