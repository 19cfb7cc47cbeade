"""The reference of the checks, made of the table in the code.

`python -m tests.docs.checks` writes `docs/reference/checks.md`, which a test compares with the code.
"""

from __future__ import annotations

from pathlib import Path

from tests.docs.codes import rows

from twofold.checks.findings import CODES

FILE = Path(__file__).parents[2] / "docs/reference/checks.md"
HEAD = """# Checks

`app.check()` returns what the code of an application declares and never uses, or uses and never declares, as a list of
`Finding`. Call it in a test:

```text
def test_nothing_is_left_over() -> None:
    assert build("memory://").check(ignore=["TF003:ReceiptPrinted"]) == []
```

`await app.check_log()` compares the code with what the log and the read models hold. The command line does both, for CI
and for monitors; its exit code is 1 if there is an error, and with `--strict` also for warnings:

```text
twofold check orders.app:build --url sqlite:///orders.db --log --ignore TF003:ReceiptPrinted --json
```

It looks at what is imported, in the packages of all that the application has registered, or in those that `packages=`
or `--package` name. Decision models are found where a module holds one, or has a function of texts and numbers that
says `-> DecisionModel[…]`; such a function is called with samples. A code stays what it is; ignore one, or one for a
single subject.

The codes from TF201 on are found by `twofold doctor`, which looks at databases and machines, and not at code; those
from TF301 on by `twofold schema check`. Each code has a page with why it matters and what to do, which
`twofold explain TF003` prints, too.

| code | level | what |
|---|---|---|
"""
TAIL = """
::: twofold.checks.findings

::: twofold.checks.databases
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(rows(CODES)) + TAIL


if __name__ == "__main__":
    FILE.write_text(page(), "utf-8")
