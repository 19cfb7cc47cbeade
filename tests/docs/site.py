"""The site: each version of the documentation in a folder of its own, and the list from which a reader chooses one.

`python -m tests.docs.site`, which `make docs` runs after the build, puts what was built under the version of
`pyproject.toml` into `site/`, beside the earlier versions that are there. The theme reads `versions.json`.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".cache/site"
SITE = ROOT / "site"
REDIRECT = """<!doctype html>
<meta charset="utf-8">
<title>Twofold</title>
<meta http-equiv="refresh" content="0; url={version}/">
<link rel="canonical" href="{version}/">
<a href="{version}/">Twofold {version}</a>
"""


def version_of(project: Path = ROOT) -> str:
    """Return the version that a reader chooses: corrections do not make a new one."""
    found = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return ".".join(found.split(".")[:2])


def publish(built: Path, site: Path, version: str) -> None:
    """Put a built version beside those that are there; the first page of the site leads to the newest."""
    site.mkdir(exist_ok=True)
    if (site / version).exists():
        shutil.rmtree(site / version)
    shutil.copytree(built, site / version)
    folders = [each.name for each in site.iterdir() if (each / "index.html").is_file()]
    newest, *older = sorted(folders, key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    entries = [{"version": newest, "title": newest, "aliases": ["latest"]}]
    entries += [{"version": each, "title": each, "aliases": []} for each in older]
    (site / "versions.json").write_text(json.dumps(entries, indent=2) + "\n", "utf-8")
    (site / "index.html").write_text(REDIRECT.format(version=newest), "utf-8")


if __name__ == "__main__":
    publish(BUILT, SITE, version_of())
