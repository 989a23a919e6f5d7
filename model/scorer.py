"""The scorer: one checkpoint ready to score, behind five verbs.

    plan(width, height, heads)         -> cost in rows              (no torch needed: CropPlanner)
    crops(image)                       -> uint8 [n, 3, h, w]        (no torch needed: CropPlanner)
    forward(crops, row_crop, row_pass) -> float32 rows [m, d]
    embed(prompts)                     -> text features [n, d], cached
    reduce(rows, prompt)               -> Score

The service runs the verbs apart, across processes and requests; ``score`` runs them one after
another.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model import images
from model.checkpoint import find, load_network
from model.config import CheckpointConfig, CropPolicy, Head
from model.crops import CropPlanner, Layout
from model.network import Network, Views
from model.scores import Score

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

_CACHED_PROMPTS = 4096


class Scorer:
    """A folded network on a device, with its crop policy and its cache of prompts.

    It takes the network over: the towers are moved to the device and converted in place.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        network: Network,
        *,
        device: str = "auto",
        dtype: str = "auto",
        crop_policy: CropPolicy | str | None = None,
    ) -> None:
        self.config = config
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.planner = CropPlanner(config, choose_policy(config, crop_policy))
        if self.planner.policy.size != network.input_size:
            sizes = f"{self.planner.policy.size}, the backbone takes {network.input_size}"
            raise ValueError(f"{config.name}: the crop policy's size is {sizes}")
        self._net = network.eval().fold()
        self._net.place(self.device, self.dtype)
        mean, std = config.normalisation.mean, config.normalisation.std
        self._mean = torch.tensor(mean, device=self.device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(std, device=self.device).view(1, 3, 1, 1) * 255
        self._prompts: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """Loads a checkpoint; see ``model.load``."""
        config, network = load_network(find(name_or_path))
        return cls(config, network, **options)

    def plan(self, width: int, height: int, heads: Sequence[Head] | None = None) -> int:
        """Rows that a ``width`` x ``height`` image costs; None: every head of the method."""
        return self.planner.plan(width, height, heads or self.config.heads)

    def crops(self, image: ImageSource, heads: Sequence[Head] | None = None) -> np.ndarray:
        """uint8 [n, 3, h, w]: the windows, then the global view where the heads need one."""
        return self.planner.crops(_picture(image), heads)

    @torch.inference_mode()
    def forward(
        self, crops: np.ndarray, row_crop: Sequence[int], row_pass: Sequence[int]
    ) -> np.ndarray:
        """Rows float32 [m, d]: row i is crop ``row_crop[i]`` in pass ``row_pass[i]``, each computed
        on its own.
        """
        pixels = torch.from_numpy(crops).to(self.device, non_blocking=True).float()
        pixels = ((pixels - self._mean) / self._std).to(self.dtype)
        crop = torch.tensor(row_crop, device=self.device)
        which = torch.tensor(row_pass, device=self.device)
        return self._net(pixels, crop, which).cpu().numpy()

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Normalised text features float32 [n, d] on the CPU, each prompt computed once and kept
        (4096 at most).
        """
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]
        found = {prompt: self._prompts[prompt] for prompt in prompts if prompt in self._prompts}
        if new:
            found |= zip(new, self._net.embed(new).cpu(), strict=True)
        for prompt in prompts:
            self._prompts[prompt] = found[prompt]
            self._prompts.move_to_end(prompt)
        while len(self._prompts) > _CACHED_PROMPTS:
            self._prompts.popitem(last=False)
        return torch.stack([found[prompt] for prompt in prompts])

    def knows(self, prompt: str) -> bool:
        """Whether the prompt's features are in the cache."""
        return prompt in self._prompts

    @torch.inference_mode()
    def reduce(
        self, rows: np.ndarray, prompt: str | None = None, heads: Sequence[Head] | None = None
    ) -> Score:
        """The Score of one image from all of its rows, in the order of its layout.

        Raises:
            ValueError: the number of rows fits no image with these heads.
        """
        chosen = self.planner.heads(heads, prompted=prompt is not None)
        layout = self._layout_of(len(rows), chosen)
        z = torch.from_numpy(rows)
        which = torch.tensor(layout.row_pass)
        passes = {}
        for p in self.planner.passes(chosen):
            own = z[which == p]
            whole = own[-1] if self.planner.global_in(p, chosen) else None
            passes[p] = Views(own[: layout.windows], whole)
        t_user = None
        if prompt is not None and "consistency" in chosen:
            t_user = self.embed([prompt])[0]
        counts = self.planner.policy.global_view
        return self._net.read(passes, chosen, t_user, whole=counts)

    def _layout_of(self, rows: int, heads: Sequence[Head]) -> Layout:
        passes = self.planner.passes(heads)
        extra = sum(self.planner.global_in(p, heads) for p in passes)
        windows, rest = divmod(rows - extra, len(passes))
        if rest or windows < 1:
            raise ValueError(f"{rows} rows fit no image with the heads {', '.join(heads)}")
        return self.planner.rows_of(windows, heads)

    @overload
    def score(
        self, image: ImageSource, prompt: str | None = None, heads: Iterable[Head] | None = None
    ) -> Score: ...
    @overload
    def score(
        self,
        image: list[ImageSource],
        prompt: Sequence[str | None] | str | None = None,
        heads: Iterable[Head] | None = None,
    ) -> list[Score]: ...

    def score(
        self,
        image: ImageSource | list[ImageSource],
        prompt: Sequence[str | None] | str | None = None,
        heads: Iterable[Head] | None = None,
    ) -> Score | list[Score]:
        """Scores an image or a list of them.

        Args:
            image: a path, bytes, a Pillow image or a uint8 array [h, w, 3]; or a list of such.
            prompt: the prompt that the image was generated from; for a list, one for all or one for
                each.
            heads: ``quality``, ``alignment``, ``consistency``; None: all that apply.

        Raises:
            ImageError: the image can't be scored.
            ValueError: unfitting prompts or heads.
        """
        chosen = tuple(heads) if heads is not None else None
        if not isinstance(image, list):
            if prompt is not None and not isinstance(prompt, str):
                raise ValueError("one image takes one prompt")
            return self._score_one(image, prompt or None, chosen)
        prompts = (
            [prompt] * len(image) if prompt is None or isinstance(prompt, str) else list(prompt)
        )
        if len(prompts) != len(image):
            raise ValueError(
                f"{len(image)} images, but {len(prompts)} prompts: give none, one, or one for each"
            )
        return [self._score_one(i, p or None, chosen) for i, p in zip(image, prompts, strict=True)]

    def rows(self, picture: Image.Image, heads: Sequence[Head]) -> np.ndarray:
        """All rows float32 [m, d] of one upright RGB image, in the order of its layout."""
        layout = self.planner.layout(*picture.size, heads)
        crops = self.planner.crops(picture, heads)
        return self.forward(crops, layout.row_crop, layout.row_pass)

    def _score_one(
        self, source: ImageSource, prompt: str | None, heads: Sequence[Head] | None
    ) -> Score:
        picture = _picture(source)
        chosen = self.planner.heads(heads, prompted=prompt is not None)
        return self.reduce(self.rows(picture, chosen), prompt, chosen)


def _picture(source: ImageSource) -> Image.Image:
    return images.read(Path(source) if isinstance(source, os.PathLike) else source)


def choose_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the device multiplies it natively (CUDA, AMX, AVX-512 BF16), else
    float32.

    Raises:
        ValueError: another name than auto, float32, bfloat16.
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise ValueError(f"dtype {dtype!r}: choose auto, float32 or bfloat16")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def choose_policy(config: CheckpointConfig, policy: CropPolicy | str | None) -> CropPolicy:
    """The checkpoint's own crop policy, or the one asked for.

    Raises:
        ValueError: a name other than grid and official.
    """
    if policy is None or isinstance(policy, CropPolicy):
        return policy or config.crop_policy
    if policy == config.crop_policy.kind:
        return config.crop_policy
    if policy == "official":
        return CropPolicy.official(config.crop_policy.size)
    if policy == "grid":
        return CropPolicy(size=config.crop_policy.size)
    raise ValueError(f"crop policy {policy!r}: choose grid or official")
