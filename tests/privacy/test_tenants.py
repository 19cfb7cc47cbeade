"""Each tenant has subjects of its own, also where two of them bear the same id."""

from __future__ import annotations

from tests.privacy.guests import OPTIONS, RoomCleaned, WishNoted

from twofold import Application, metadata


async def wishes(app: Application, tenant: str) -> list[str]:
    with metadata(tenant=tenant):
        return [each.event.wish async for each in app.store.read()]


async def test_a_person_of_one_tenant_is_forgotten_and_none_of_another(any_url: str) -> None:
    keys_url = None if any_url.startswith("memory") else any_url.replace("twofold.db", "keys.db")
    master_key = None if keys_url is None else b"1" * 32
    app = Application(any_url, keys_url=keys_url, master_key=master_key, options=OPTIONS, tenants=True)
    app.store.events.register(WishNoted, RoomCleaned)
    async with app:
        for tenant in ("acme", "zen"):
            with metadata(tenant=tenant):
                await app.store.append([WishNoted(guest_id="g1", wish=f"a lamp of {tenant}")])
        with metadata(tenant="acme"):
            assert [each.subject for each in await app.privacy.subjects()] == ["g1"]
            report = await app.privacy.forget("g1", reason="asked", by="desk")
            assert report.events == 1
            assert await app.privacy.subjects() == []
            assert [each["data"]["wish"] async for each in app.privacy.export("g1")] == ["(forgotten)"]
        assert await wishes(app, "acme") == ["(forgotten)"]
        assert await wishes(app, "zen") == ["a lamp of zen"]
