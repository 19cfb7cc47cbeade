"""The page that shows an API's documentation, without anything from the internet."""

from __future__ import annotations

import gzip
import re
from functools import cache
from importlib.resources import files

from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from fastapi import FastAPI, Request, Response
from twofold.arguments import check_instance, check_text

_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)
_NO_ICON = "data:,"


def add_docs(api: FastAPI, *, path: str = "/docs") -> None:
    """Show the API's documentation at `/docs`; script and style come from this package, not from the internet.

    Args:
        api: the application, made with `FastAPI(docs_url=None, redoc_url=None)`: FastAPI's own pages load theirs from
            a host on the internet.
        path: where.

    Raises:
        ValueError: the application has FastAPI's own pages, or no OpenAPI document.
    """
    check_instance("api", api, FastAPI)
    check_text("path", path)
    if not path.startswith("/"):
        raise ValueError(f"`path` begins with a slash, got {path!r}")
    if api.docs_url or api.redoc_url or not api.openapi_url:
        raise ValueError("add_docs needs FastAPI(docs_url=None, redoc_url=None) and an `openapi_url`")

    async def show_docs(request: Request) -> HTMLResponse:
        root = str(request.scope.get("root_path", "")).rstrip("/")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{api.openapi_url}",
            title=f"{api.title}: documentation",
            swagger_js_url=f"{root}{path}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{path}/swagger-ui.css",
            swagger_favicon_url=_NO_ICON,
        )
        page.headers["Content-Security-Policy"] = _POLICY
        return page

    async def send_asset(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        headers = {"Cache-Control": "public, max-age=86400", "Vary": "Accept-Encoding"}
        content = _asset(name)
        if re.search(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
        else:
            content = gzip.decompress(content)
        return Response(content, media_type=_ASSETS[name], headers=headers)

    api.add_route(path, show_docs, include_in_schema=False)
    for name in _ASSETS:
        api.add_route(f"{path}/{name}", send_asset, include_in_schema=False)


@cache
def _asset(name: str) -> bytes:
    return files("twofold.fastapi").joinpath("assets", f"{name}.gz").read_bytes()
