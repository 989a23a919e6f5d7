"""What only operators may do: ``app.http.middleware`` asks for a key of AGIQA_ADMIN_KEYS."""

from fastapi import APIRouter, Depends

from app.batching.errors import Forbidden
from app.http.keys import Keys, required
from app.http.openapi import ADMIN, problems
from app.http.routes import description
from app.http.schemas import ModelDescription
from app.service import Service


def administration(service: Service) -> APIRouter:
    """POST /models/{name}/reload."""
    key = required(Keys(service.settings.admin_keys), ADMIN, Forbidden)
    router = APIRouter(tags=["administration"], dependencies=[Depends(key)])

    @router.post(
        "/models/{name}/reload",
        summary="Load a model again, and swap",
        responses=problems(401, 403, 404, 409, 503),
    )
    async def reload(name: str) -> ModelDescription:
        """Loads a model again from where it came from, tests it, and serves it from then on.

        Requests under way are finished by the model as it was; none is dropped. A checkpoint that
        can't be read, or fails its test, is 409 `reload_failed`, and the model stays as it was.
        """
        model = await service.reload(name)
        return description(model, service.models.defaults)

    return router
