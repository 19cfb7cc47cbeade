"""The address that Prometheus scrapes, in a FastAPI application."""

from __future__ import annotations

from starlette.routing import Route

from fastapi import FastAPI
from twofold.application import Application
from twofold.arguments import check_instance, check_number, check_path


def add_metrics(api: FastAPI, app: Application, *, path: str = "/metrics", max_wait: float = 5.0) -> None:
    """Answer the scrapes of Prometheus; needs the extra `prometheus`.

    See `twofold.prometheus.metrics` for what a scrape is told. It names read models and processes, and no data: serve
    it where the public cannot ask, or let the proxy in front refuse the path.

    Args:
        api: the FastAPI application.
        app: the application whose figures are told.
        path: the address.
        max_wait: seconds in which the databases must answer, as of `twofold.prometheus.metrics`.

    Raises:
        ModuleNotFoundError: the extra is not installed.
        ValueError: the path does not begin with a slash, or ends with one.
    """
    check_instance("api", api, FastAPI)
    check_instance("app", app, Application)
    check_path("path", path)
    check_number("max_wait", max_wait)
    from twofold.prometheus import metrics  # not at the top: the extra `fastapi` does without its client

    api.router.routes.append(Route(path, metrics(app, max_wait=max_wait), include_in_schema=False))
