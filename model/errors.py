"""What can go wrong between bytes and a score, each with a sentence for the user.

    ModelError
    ├── CheckpointError         a checkpoint that can't be read, found or trusted
    │   └── BackboneError       backbone weights that are missing, of another shape, or unsupported
    ├── InferenceError          the network fails on an image
    ├── PromptTooLong           a prompt of too many tokens; a ValueError too
    └── ImageError              an image that can't be scored
        ├── UnsupportedImage    no known image format
        ├── UnreadableImage     a known format, broken inside
        ├── ImageTooLarge       over the limit of bytes or pixels
        └── BadAspect           one side over 50 times the other

The messages are written for the person who sent the image or named the checkpoint: they say what to
do, and name nothing that is private to the machine.
"""


class ModelError(Exception):
    """Base of every error that this package raises on purpose."""


class CheckpointError(ModelError):
    """A checkpoint that can't be read, found or trusted."""


class BackboneError(CheckpointError):
    """Backbone weights that are missing, misshapen, or of an architecture without a class token."""


class InferenceError(ModelError):
    """The network fails on an image, even when it is computed alone."""

    code = "inference_failed"


class PromptTooLong(ModelError, ValueError):
    """The prompt has more tokens than the scorer takes."""

    code = "bad_field"


class ImageError(ModelError):
    """An image that can't be scored; ``code`` is stable and goes into every report."""

    code = "unreadable_image"


class UnsupportedImage(ImageError):
    """The bytes are of no image format that we know."""

    code = "unsupported_image"


class UnreadableImage(ImageError):
    """The bytes start like an image, but they can't be decoded."""


class ImageTooLarge(ImageError):
    """The image is over the limit of bytes or of pixels, as its header says."""

    code = "too_large"


class BadAspect(ImageError):
    """One side is over 50 times as long as the other."""

    code = "bad_aspect"
