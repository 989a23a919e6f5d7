"""Every refusal and failure that a client can meet, with its stable code and the sentence it gets.

    ServiceError                    code                status  counted as
    ├── Rejected
    │   ├── InvalidImage            unreadable_image    400     invalid_image
    │   ├── UnsupportedFormat       unsupported_image   415     unsupported
    │   ├── SlowBody                slow_body           408     slow_body
    │   ├── TooLarge                too_large           413     too_large
    │   ├── BadAspectRatio          bad_aspect          422     invalid_image
    │   ├── BadField                bad_field           422     bad_field
    │   ├── BadPath                 bad_path            400     bad_field
    │   ├── BadHost                 bad_host            421     bad_field
    │   ├── CrossSite               cross_site          403     bad_field
    │   ├── Quarantined             quarantined         422     quarantined
    │   ├── NotFound                not_found           404     -
    │   ├── MethodNotAllowed        method_not_allowed  405     -
    │   ├── Unauthorized            unauthorized        401     unauthorized
    │   ├── Forbidden               forbidden           403     unauthorized
    │   ├── ReloadFailed            reload_failed       409     bad_field
    │   └── UnknownModel            unknown_model       404     bad_field
    ├── Unavailable
    │   ├── Overloaded              overloaded          429     overloaded
    │   ├── Loading                 loading             503     worker_down
    │   ├── Draining                draining            503     draining
    │   └── WorkerDown              worker_down         503     worker_down
    └── Failed
        ├── DeadlineExceeded        deadline            504     deadline
        ├── ClientGone              client_gone         499     client_gone
        ├── InferenceFailed         inference_failed    500     inference
        │   └── OutOfMemory         inference_failed    500     oom
        └── Internal                internal            500     inference

The one map from these to HTTP is ``app.http.problems``. Messages never hold anything internal.
"""

import math
import random
from collections.abc import Callable


class ServiceError(Exception):
    """Base; ``detail`` is the sentence for the client."""

    code = "internal"
    status = 500
    reason = "inference"
    title = "Internal error"
    default = "Something went wrong here; try again, and report the request id if it happens again."

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.default
        super().__init__(self.detail)


class Rejected(ServiceError):
    """The request itself can't be served; sending it again changes nothing."""


class InvalidImage(Rejected):
    """A known format that can't be decoded."""

    code, status, reason, title = "unreadable_image", 400, "invalid_image", "Unreadable image"


class UnsupportedFormat(Rejected):
    """No known image format."""

    code, status, reason, title = (
        "unsupported_image",
        415,
        "unsupported",
        "Unsupported image format",
    )


class SlowBody(Rejected):
    """The body was not there in the time that it has."""

    code, status, reason, title = "slow_body", 408, "slow_body", "Slow upload"
    default = "The upload took too long and was given up; send less at once, or over a faster line."


class TooLarge(Rejected):
    """Over a limit of bytes, pixels, or of what the queue can ever hold."""

    code, status, reason, title = "too_large", 413, "too_large", "Too large"


class BadAspectRatio(Rejected):
    """One side over 50 times the other."""

    code, status, reason, title = "bad_aspect", 422, "invalid_image", "Extreme aspect ratio"


class BadField(Rejected):
    """A field of the request is missing or has no usable value."""

    code, status, reason, title = "bad_field", 422, "bad_field", "Bad field"


class BadPath(Rejected):
    """The address holds a line break or another character that can't be printed."""

    code, status, reason, title = "bad_path", 400, "bad_field", "Bad path"
    default = "The address holds characters that can't be printed; take them out."


class BadHost(Rejected):
    """The request was sent to a name that is not the service's."""

    code, status, reason, title = "bad_host", 421, "bad_field", "Bad host"
    default = "The service does not answer to this name; allow it by AGIQA_ALLOWED_HOSTS if it may."


class CrossSite(Rejected):
    """A browser sent it for a page of another site."""

    code, status, reason, title = "cross_site", 403, "bad_field", "Cross-site request"
    default = "A page of another site sent this; allow it by AGIQA_ALLOWED_ORIGINS if it may."


class Quarantined(Rejected):
    """The image ended the worker twice, the second time alone."""

    code, status, reason, title = "quarantined", 422, "quarantined", "Quarantined"
    default = (
        "This image ended the worker twice and is not tried again; send another file, and report "
        "the request id."
    )


class NotFound(Rejected):
    """No endpoint has this address."""

    code, status, reason, title = "not_found", 404, "bad_field", "Not found"
    default = "There is nothing here; GET /docs lists what there is."


class MethodNotAllowed(Rejected):
    """The endpoint takes another method."""

    code, status, reason, title = "method_not_allowed", 405, "bad_field", "Method not allowed"
    default = "This address takes another method; GET /docs tells which."


class Unauthorized(Rejected):
    """No API key, or an unknown one."""

    code, status, reason, title = "unauthorized", 401, "unauthorized", "Unauthorized"
    default = "Send a valid API key in the header `Authorization: Bearer KEY`."


class Forbidden(Rejected):
    """An address for operators, and the service has no key for them."""

    code, status, reason, title = "forbidden", 403, "unauthorized", "Forbidden"
    default = "This address is for operators; start the service with AGIQA_ADMIN_KEYS to open it."


class ReloadFailed(Rejected):
    """A model can't be loaded again; the sentence is for the operator."""

    code, status, reason, title = "reload_failed", 409, "bad_field", "Reload failed"
    default = "The checkpoint can't be used, and the model stays as it was; the log says more."


class UnknownModel(Rejected):
    """``?model=`` names none of the loaded models."""

    code, status, reason, title = "unknown_model", 404, "bad_field", "Unknown model"


class Unavailable(ServiceError):
    """Not now; the same request may succeed later, after ``retry_after`` seconds. ``crowd``: those
    who were refused meanwhile would take so many seconds, if all of them came back.
    """

    def __init__(
        self, detail: str | None = None, retry_after: float = 1.0, crowd: float = 0.0
    ) -> None:
        super().__init__(detail)
        self.retry_after = max(1, math.ceil(retry_after))
        self.crowd = crowd

    def come_back_in(self, chance: Callable[[], float] = random.random) -> int:
        """Whole seconds for one client, up to a quarter more than ``retry_after`` and the crowd's
        seconds, so that those who were refused together do not come back together; ``chance`` lies
        in [0, 1).
        """
        # Rounded up as often as the fraction is large: short waits are spread as well.
        return int(self.retry_after + (self.retry_after / 4 + self.crowd) * chance() + chance())


class Overloaded(Unavailable):
    """The backlog can't be worked off before the request's deadline, or a ceiling is reached."""

    code, status, reason, title = "overloaded", 429, "overloaded", "Overloaded"
    default = "The service is busy; try again after the seconds that Retry-After gives."


class Loading(Unavailable):
    """The models are not loaded yet."""

    code, status, reason, title = "loading", 503, "worker_down", "Loading"
    default = "The models are being loaded; try again shortly."


class Draining(Unavailable):
    """The service is shutting down and takes no new requests."""

    code, status, reason, title = "draining", 503, "draining", "Shutting down"
    default = (
        "This instance is shutting down; send the request to another one, or try again shortly."
    )


class WorkerDown(Unavailable):
    """The worker process died and its replacement is not up yet."""

    code, status, reason, title = "worker_down", 503, "worker_down", "Worker down"
    default = "The worker that computes scores is being restarted; try again shortly."


class Failed(ServiceError):
    """Admitted, but no score came of it."""


class DeadlineExceeded(Failed):
    """The deadline passed before the score was there."""

    code, status, reason, title = "deadline", 504, "deadline", "Deadline exceeded"
    default = "The score was not ready before the deadline; allow more time, or try again later."


class ClientGone(Failed):
    """The client closed the connection; nobody reads this answer."""

    code, status, reason, title = "client_gone", 499, "client_gone", "Client closed the request"
    default = "The client closed the connection."


class InferenceFailed(Failed):
    """The network failed on this very image."""

    code, status, reason, title = "inference_failed", 500, "inference", "Inference failed"
    default = "The model failed on this image; try another file, and report the request id."


class OutOfMemory(InferenceFailed):
    """The device can't hold even one crop of it."""

    reason = "oom"


class Internal(Failed):
    """Anything unforeseen."""


def _reasons(error: type[ServiceError]) -> set[str]:
    return {error.reason}.union(*map(_reasons, error.__subclasses__()))


REASONS = tuple(sorted(_reasons(ServiceError)))
