"""Networks that score image quality, their checkpoints, and the scorer. Knows no HTTP.

``model.load("tiny-clip-agiqa").score("photo.jpg")`` is all that most users need. Importing this
package does not import torch; ``load`` does.
"""

from typing import TYPE_CHECKING

from model.scores import Score

if TYPE_CHECKING:
    from model.config import CropPolicy
    from model.scorer import Scorer

__all__ = ["Score", "load"]


def load(
    name_or_path: str = "tiny-clip-agiqa",
    device: str = "auto",
    dtype: str = "auto",
    crop_policy: "CropPolicy | str | None" = None,
) -> "Scorer":
    """Loads a checkpoint by bundled name or directory and returns its scorer.

    Args:
        name_or_path: a bundled name (``agiqa models`` lists them), a checkpoint directory, or
            ``hf://owner/name``.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1`` ...
        dtype: ``auto`` (bfloat16 where the device multiplies it natively), ``float32`` or
            ``bfloat16``.
        crop_policy: instead of the checkpoint's own: a ``CropPolicy``, or ``"grid"``,
            ``"official"``, ``"liqe"``, ``"random"`` or ``"whole"`` (see
            ``model.preprocess.windows``).

    Raises:
        CheckpointError: no such checkpoint, or one that is damaged.
    """
    from model.scorer import Scorer

    return Scorer.load(name_or_path, device=device, dtype=dtype, crop_policy=crop_policy)
