"""The one map from errors to HTTP answers: RFC 9457 ``application/problem+json``."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.batching.errors import (
    BadField,
    Draining,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    SlowBody,
    Unauthorized,
    Unavailable,
)
from app.http.request_state import state_of
from app.logs import request_id

MEDIA_TYPE = "application/problem+json"
# What the router itself refuses; no image was sent that could fail, so no failure is counted.
_BY_STATUS = {404: NotFound, 405: MethodNotAllowed}


def problem(error: ServiceError) -> dict[str, Any]:
    """The problem object of an error."""
    return {
        "type": f"urn:agiqa:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id.get(),
    }


def answer(
    error: ServiceError,
    extra: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """The HTTP answer of an error, with Retry-After, WWW-Authenticate and Connection where they
    belong, the ``extra`` headers, and further ``members`` of the problem object.
    """
    headers = dict(extra or {})
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.come_back_in())
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Draining | SlowBody):
        headers["Connection"] = "close"
    content = problem(error) | dict(members or {})
    return JSONResponse(content, error.status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Gives every error of the application this form; marks the reason for the metrics."""

    async def on_service_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError)
        state_of(request.scope).fail(error)
        return answer(error)

    async def on_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return await on_service_error(request, BadField(_sentence(error.errors())))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if refusal := state_of(request.scope).refusal:
            return await on_service_error(request, refusal)
        if error.status_code in _BY_STATUS:
            missing = _BY_STATUS[error.status_code]()
            state_of(request.scope).code = missing.code
            return answer(missing, error.headers)
        return await on_service_error(request, BadField(f"The form can't be read: {error.detail}"))

    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def _sentence(errors: Sequence[Any]) -> str:
    parts = []
    for error in errors:
        where, *rest = (str(part) for part in error["loc"])
        field = ".".join(rest) or where
        kind = "file" if field in {"image", "images"} else "field"
        parts.append(
            f"the {kind} {field!r}: {error['msg']}" if rest else f"{where}: {error['msg']}"
        )
    return f"The request can't be used: {'; '.join(parts)}."
