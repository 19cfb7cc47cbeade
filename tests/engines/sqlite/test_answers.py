"""What a damaged file answers is either true or an error."""

from __future__ import annotations

import pytest

from twofold.engines.sqlite.integrity import check_positions
from twofold.errors import StorageError


def test_an_index_that_names_no_positions_is_damage() -> None:
    check_positions([])
    check_positions([1, 2, 3])
    for wrong in (b"\x01", None, 1.0, "1"):
        with pytest.raises(StorageError, match="no position"):
            check_positions([1, wrong])
