"""Makes agiqa's models metrics of pyiqa: put this file on the path and ``import agiqa_pyiqa``.

    import agiqa_pyiqa
    import pyiqa

    metric = pyiqa.create_metric("agiqa")                                  # photographs
    metric = pyiqa.create_metric("agiqa", checkpoint="tiny-clip-agiqa")    # any checkpoint

Neither package depends on the other; pyiqa 0.1.13 to 0.1.16 keep their metrics in the two tables
that are filled here. pyiqa decodes images itself and passes tensors on, so EXIF rotation and colour
profiles are lost on that way; ``model.load(name)(path)`` keeps them.
"""

import torch
from pyiqa.default_model_configs import DEFAULT_CONFIGS
from pyiqa.utils.registry import ARCH_REGISTRY

import model


class AGIQA(torch.nn.Module):
    """A scorer behind pyiqa's interface: tensors [N, 3, h, w] in [0, 1] to scores [N, 1]."""

    def __init__(self, checkpoint: str = "tiny-mpiqe") -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self._scorer, self._place = None, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores on the device of ``x``; the scorer is loaded at the first call there."""
        if self._scorer is None or self._place != x.device:
            self._scorer, self._place = model.load(self.checkpoint, device=str(x.device)), x.device
        return self._scorer(x).to(x.device)


if "AGIQA" not in ARCH_REGISTRY:
    ARCH_REGISTRY.register(AGIQA)
DEFAULT_CONFIGS.setdefault(
    "agiqa",
    {
        "metric_opts": {"type": "AGIQA"},
        "metric_mode": "NR",
        "lower_better": False,
        "score_range": "0, 1",
    },
)
