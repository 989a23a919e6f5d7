"""The web page at ``/``, the OpenAPI page at ``/docs``, and the files under ``/static`` that both
load.

Nothing here asks another host, and the policy that browsers are given forbids it.
"""

import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parents[1] / "static"

_ONLY_OURS = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
)
PAGE_POLICY = (
    _ONLY_OURS + "style-src 'self'; img-src 'self' blob: data:; require-trusted-types-for 'script'"
)
# Swagger UI writes style attributes into its markup, and builds that from strings.
DOCS_POLICY = _ONLY_OURS + "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:"
_HEADERS = {
    # Asked for again with its ETag each time, so that a new version is seen at once.
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Told here, since the system's table may say otherwise, and browsers run no module of another type.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def install(app: FastAPI) -> None:
    """Adds GET /, /docs and /static; FastAPI's own pages, which load from a CDN, must be off."""
    app.add_route("/", _document("index.html", PAGE_POLICY, app.version))
    app.add_route("/docs", _document("docs.html", DOCS_POLICY, app.version))
    app.mount("/static", Assets(directory=STATIC / "assets"))


class Assets(StaticFiles):
    """Scripts, styles and pictures of the pages, with an ETag and the headers of every page."""

    def file_response(
        self, full_path: str | os.PathLike[str], *args: Any, **named: Any
    ) -> Response:
        """The file, or 304 for a browser that has it."""
        response = super().file_response(full_path, *args, **named)
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = "default-src 'none'"
        if response.status_code == 200 and (kind := _MEDIA_TYPES.get(Path(full_path).suffix)):
            response.headers["Content-Type"] = kind
        return response


def _document(name: str, policy: str, version: str) -> Callable[[Request], Awaitable[Response]]:
    text = (STATIC / name).read_text(encoding="utf-8").replace("{{version}}", version)
    tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    headers = {**_HEADERS, "Content-Security-Policy": policy, "ETag": tag}

    async def document(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if tag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return Response(status_code=304, headers=headers)
        return HTMLResponse(text, headers=headers)

    return document
