"""An application whose own process does not run its projections: `twofold worker` is to do so."""

from __future__ import annotations

from tests.accounts import Balances, wire

from twofold import Application


def build(url: str) -> Application:
    app = Application(url, synchronize=False)
    wire(app)
    app.projections.add(Balances())
    return app
