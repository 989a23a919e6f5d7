"""Whether the service lives, and whether it takes requests. Public: they say nothing secret."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.batching.errors import ServiceError
from app.http.openapi import problems
from app.http.problems import answer
from app.http.request_state import state_of
from app.service import Service

LIVE = ("/livez", "/v2/health/live")
READY = ("/readyz", "/v2/health/ready")
Verbose = Annotated[
    str | None,
    Query(description="There, with any value or none: adds what the service does and its limits."),
]


def probes(service: Service) -> APIRouter:
    """GET /livez and /readyz, also under the names that other inference servers give them."""
    router = APIRouter(tags=["operations"])

    async def livez() -> dict[str, str]:
        """The process runs; says nothing about the worker."""
        return {"status": "alive"}

    async def readyz(request: Request, verbose: Verbose = None) -> Response:
        """Requests are taken; 503 while loading, draining, or without a worker. A full queue is
        ready.
        """
        more: dict[str, Any] = {} if verbose is None else service.condition()
        try:
            service.require_ready()
        except ServiceError as error:
            state_of(request.scope).fail(error)
            return answer(error, members=more)
        return JSONResponse({"status": "ready"} | more)

    _add(router, LIVE, livez, summary="Whether the process runs")
    _add(router, READY, readyz, summary="Whether requests are taken", responses=problems(503))
    return router


def _add(router: APIRouter, paths: tuple[str, ...], endpoint: Any, **documented: Any) -> None:
    for path in paths:
        router.get(path, include_in_schema=path == paths[0], **documented)(endpoint)
