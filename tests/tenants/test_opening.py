"""A log belongs to tenants or to none: an application of the other sort does not open it."""

from __future__ import annotations

import pytest
from tests.accounts import Open, wire

from twofold import NO_STREAM, Application, StorageError, SubjectForgotten, metadata


async def one_account(url: str, *, tenants: bool) -> None:
    app = Application(url, tenants=tenants)
    wire(app)
    async with app:
        with metadata(tenant="acme" if tenants else None):
            await app.commands.dispatch(Open(account="a"))


@pytest.mark.parametrize("tenants", [True, False])
async def test_an_application_does_not_open_a_log_of_the_other_sort_and_says_what_to_do(
    url: str, *, tenants: bool
) -> None:
    await one_account(url, tenants=tenants)
    with pytest.raises(StorageError, match="tenants=True" if tenants else "belong to no tenant"):
        await Application(url, tenants=not tenants).start()
    async with Application(url, tenants=tenants) as app:
        assert app.store is not None


@pytest.mark.parametrize("tenants", [True, False])
async def test_that_a_person_was_forgotten_does_not_make_a_log_one_of_tenants_or_of_none(
    url: str, *, tenants: bool
) -> None:
    async with Application(url) as app:
        forgotten = SubjectForgotten("digest", 1)
        await app.store.append_events("twofold.Subject-1", "twofold.Subject", [forgotten], expected_version=NO_STREAM)
    async with Application(url, tenants=tenants) as app:
        assert app.store is not None
