"""The dashboard: what an application's log, read models and processes hold, and what is wrong with them.

    api.mount("/twofold", dashboard(app))

It reads through the functions of `twofold.inspection` and the `status` and `control` of projections and processes; what
it shows, any program can ask for.
"""

from twofold.dashboard.guard import Access, Grant, local_readers
from twofold.dashboard.site import dashboard

__all__ = ["Access", "Grant", "dashboard", "local_readers"]
