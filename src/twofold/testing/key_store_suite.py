"""The conformance suite of `KeyStore`.

class TestMyKeyStore(KeyStoreConformance):
@pytest.fixture
def keys(self): ...        # an open, empty store
"""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from twofold.ports.keys import KeyStore, StoredKey


def stored_key(id: str, wrapped: bytes = b"\0\xffwrapped", master: str = "m1") -> StoredKey:
    """Return a key as a store holds it."""
    return StoredKey(id, wrapped, master, 2**50)


class KeyStoreConformance:
    """What is added is found; what is destroyed is never found or made again."""

    def test_a_key_is_found_exactly_as_it_was_added(self, keys: KeyStore) -> None:
        added = [stored_key(f"{n:032}", bytes([n])) for n in range(3)]
        keys.add(added)
        assert sorted(keys.find([each.id for each in added] + ["absent"])) == added
        assert keys.find([]) == []

    def test_the_first_of_two_keys_of_one_id_stays(self, keys: KeyStore) -> None:
        keys.add([stored_key("a", b"first")])
        keys.add([stored_key("a", b"second"), stored_key("b")])
        assert {key.id: key.wrapped for key in keys.find(["a", "b"])} == {"a": b"first", "b": b"\0\xffwrapped"}

    def test_a_destroyed_key_is_gone_and_cannot_be_added_again(self, keys: KeyStore) -> None:
        keys.add([stored_key("a")])
        keys.destroy("a", at=5, reason="asked", by="ann", also="states:")
        keys.add([stored_key("a")])
        assert [key.wrapped for key in keys.find(["a"])] == [b""]
        assert keys.read_keys() == []

    def test_what_never_had_a_key_can_be_destroyed_beforehand(self, keys: KeyStore) -> None:
        keys.destroy("a", at=5, reason="", by="", also="states:")
        keys.add([stored_key("a")])
        assert [key.wrapped for key in keys.find(["a"])] == [b""]

    def test_forgettings_are_numbered_without_a_gap_and_a_repeat_is_the_first_one(self, keys: KeyStore) -> None:
        assert keys.last_forgotten() == 0
        first = keys.destroy("a", at=5, reason="asked", by="ann", also="states:")
        again = keys.destroy("a", at=9, reason="other", by="bob", also="states:")
        second = keys.destroy("b", at=9, reason="", by="", also="states:")
        assert (first, again) == ((1, "a", 5, "asked", "ann", "begun"), first)
        assert (second.number, keys.last_forgotten()) == (2, 2)
        keys.settle("a")
        assert [(each.id, each.state) for each in keys.forgotten()] == [("a", "done"), ("b", "begun")]
        assert [each.id for each in keys.forgotten(after=1)] == ["b"]

    def test_other_keys_go_with_it_and_come_only_as_of_the_last_forgetting(self, keys: KeyStore) -> None:
        keys.add([stored_key("states:0"), stored_key("other")])
        keys.destroy("a", at=5, reason="", by="", also="states:")
        assert [key.id for key in keys.read_keys()] == ["other"]
        keys.add([stored_key("states:0")], forgotten=0)
        keys.add([stored_key("states:1")], forgotten=1)
        assert [key.id for key in keys.read_keys()] == ["other", "states:1"]

    def test_keys_come_in_pages_in_the_order_of_their_ids(self, keys: KeyStore) -> None:
        keys.add([stored_key(each) for each in ("c", "a", "b")])
        assert [key.id for key in keys.read_keys(limit=2)] == ["a", "b"]
        assert [key.id for key in keys.read_keys(after="b", limit=2)] == ["c"]

    def test_a_key_is_wrapped_again_only_as_it_was_found(self, keys: KeyStore) -> None:
        keys.add([old := stored_key("a"), gone := stored_key("b")])
        assert keys.rewrap(old, stored_key("a", b"new", "m2"))
        assert not keys.rewrap(old, stored_key("a", b"newer", "m3"))
        assert keys.find(["a"]) == [stored_key("a", b"new", "m2")]
        keys.destroy("b", at=1, reason="", by="", also="states:")
        assert not keys.rewrap(gone, stored_key("b", b"new", "m2"))
        assert [key.wrapped for key in keys.find(["b"])] == [b""]

    def test_threads_that_destroy_at_once_get_numbers_of_their_own(self, keys: KeyStore) -> None:
        with ThreadPoolExecutor(4) as threads:
            found = list(
                threads.map(lambda n: keys.destroy(f"k{n}", at=n, reason="", by="", also="states:"), range(12))
            )
        assert sorted(each.number for each in found) == list(range(1, 13))

    def test_it_may_be_purged_and_closed_and_opened_again(self, keys: KeyStore) -> None:
        keys.open()
        keys.purge()
        keys.close()
        keys.close()
        keys.open()
        keys.add([stored_key("z")])
        assert [key.id for key in keys.find(["z"])] == ["z"]
