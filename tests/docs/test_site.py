"""The site keeps each version of the documentation, and a reader can choose one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from tests.docs.site import BUILT, ROOT, publish, version_of


def built(folder: Path, text: str) -> Path:
    """Return a folder as `zensical build` makes it."""
    (folder / "tutorial").mkdir(parents=True)
    (folder / "index.html").write_text(text)
    (folder / "tutorial/index.html").write_text(text)
    return folder


def test_versions_stand_beside_each_other_and_the_newest_comes_first(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for version in ("0.9", "0.10", "0.2"):
        publish(built(tmp_path / version, version), site, version)
    listed = json.loads((site / "versions.json").read_text())
    assert [(each["version"], each["aliases"]) for each in listed] == [("0.10", ["latest"]), ("0.9", []), ("0.2", [])]
    assert [(site / each["version"] / "tutorial/index.html").read_text() for each in listed] == ["0.10", "0.9", "0.2"]
    assert "url=0.10/" in (site / "index.html").read_text()


def test_a_version_that_is_built_again_takes_the_place_of_itself(tmp_path: Path) -> None:
    site = tmp_path / "site"
    publish(built(tmp_path / "first", "first"), site, "0.1")
    (site / "0.1/left_over.html").touch()
    publish(built(tmp_path / "second", "second"), site, "0.1")
    assert (site / "0.1/index.html").read_text() == "second"
    assert not (site / "0.1/left_over.html").exists()
    assert len(json.loads((site / "versions.json").read_text())) == 1


def test_the_theme_is_told_where_the_versions_are() -> None:
    project = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
    assert (ROOT / project["site_dir"]) == BUILT
    assert project["extra"]["version"] == {"provider": "mike", "default": "latest"}  # the form of its list
    assert version_of().count(".") == 1
