"""A checkpoint as something to explain: its network in float32, with the crops of its policy."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.clip.towers import VisionTower
from model.config import CheckpointConfig, CropPolicy, Head
from model.errors import BackboneError
from model.methods.network import Explainable, Network, Reading, Views, normalise
from model.methods.policy import check_policy, choose_policy
from model.preprocess import images
from model.preprocess.crops import CropPlanner, Layout
from model.scorer import choose_device
from model.store.checkpoint import find, load_network
from training.errors import TrainingError

# What ``model.preprocess.images.read`` takes.
Source = str | Path | bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class HeadCrops:
    """The crops of one image that a head reads in its one pass: normalised ``pixels``
    [n, 3, s, s], the windows before the global view, as the ``layout`` has them. ``size`` is the
    image's, (width, height).
    """

    pixels: Tensor
    layout: Layout
    size: tuple[int, int]

    @property
    def has_whole(self) -> bool:
        """Whether a global view comes after the windows."""
        return self.layout.crops > self.layout.windows

    def views(self, rows: Tensor) -> Views:
        """The rows [n, d] of windows and global view apart."""
        return Views(rows[: self.layout.windows], rows[-1] if self.has_whole else None)


class Subject:
    """A network at inference whose tokens can be watched; it takes the network over.

    Gradients reach the tokens alone: no parameter asks for one.

    Raises:
        BackboneError: the image tower is no ViT, so there are no tokens.
        TrainingError: the method has no differentiable reading.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        network: Network,
        *,
        device: str = "auto",
        crop_policy: CropPolicy | str | None = None,
    ) -> None:
        if not isinstance(network.vision, VisionTower):
            found = type(getattr(network.vision, "visual", network.vision)).__name__
            raise BackboneError(
                f"{config.name} can't be explained: tokens and attention need a ViT image tower "
                f"(found {found})"
            )
        self.config = config
        self.tower = network.vision
        self.device = choose_device(device)
        self.planner = CropPlanner(config, choose_policy(config, crop_policy))
        check_policy(config.name, self.planner.policy, network)
        folded = network.eval().requires_grad_(False).fold()
        if not isinstance(folded, Explainable):
            raise TrainingError(f"{config.name} can't be explained: {config.method} can't be")
        self.folded = folded
        self.folded.place(self.device, torch.float32)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str], *, device: str = "auto") -> Self:
        """Of a checkpoint: a bundled name, a folder, or ``hf://owner/name``.

        Raises:
            CheckpointError: no such checkpoint, or one that is damaged.
            BackboneError: its image tower is no ViT.
        """
        return cls(*load_network(find(name_or_path)), device=device)

    def crops(self, source: Source, head: Head) -> HeadCrops:
        """The crops of an image that a head reads, as scoring cuts them.

        Raises:
            ImageError: the image can't be read.
        """
        planner = self.planner
        if isinstance(source, str | Path):
            source = Path(source).read_bytes()
        if isinstance(source, bytes):
            planner = planner.for_file(source)
        picture = images.read(source)
        layout = planner.layout(*picture.size, (head,))
        pixels = torch.from_numpy(self.planner.cut(picture, layout)).to(self.device)
        return HeadCrops(normalise(pixels, self.config.normalisation), layout, picture.size)

    def rows(self, pixels: Tensor, layout: Layout) -> Tensor:
        """Float32 rows [n, d] of normalised crops [n, 3, s, s] in the layout's pass, on the CPU,
        with their gradient.
        """
        rows = torch.arange(len(pixels), device=pixels.device)
        return self.folded(pixels, rows, torch.full_like(rows, layout.row_pass[0])).cpu()

    def reading(self, head: Head, prompt: str | None = None) -> Reading:
        """How the head is read.

        Raises:
            ValueError: a head that the method lacks, or consistency without a prompt.
        """
        self.planner.heads((head,), prompted=prompt is not None)
        t_user = None
        if prompt is not None and head == "consistency":
            with torch.no_grad():
                t_user = self.folded.embed([prompt])[0].cpu()
        return self.folded.reading(head, t_user)
