"""The scorer: one checkpoint ready to score, behind five verbs.

    plan(width, height, heads, prompt) -> layout, cost in rows      (no torch needed: CropPlanner)
    crops(image)                       -> uint8 [n, 3, h, w]        (no torch needed: CropPlanner)
    forward(crops, row_crop, row_pass) -> float32 rows [m, d]
    embed(prompts)                     -> text features [n, d], cached
    reduce(rows, layout, prompt)       -> Score

The service runs the verbs apart, across processes and requests; ``score`` runs them one after
another.
"""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model import self_test
from model.clip.backbone import Shared
from model.clip.known_prompts import KnownPrompts
from model.clip.known_words import has_known_word
from model.config import CheckpointConfig, CropPolicy, Head
from model.errors import ModelError, PromptTooLong
from model.methods.network import Network, Views, normalise
from model.methods.policy import check_policy, choose_policy
from model.preprocess import images
from model.preprocess.crops import PASSES, CropPlanner, Layout
from model.resources import keep_freed_memory, usable_cores
from model.scores import Score, without_known_word
from model.staging import Staged
from model.store.checkpoint import find, load_network

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

AUTO_DTYPE = "TEST_AUTO_DTYPE"
_CACHED_PROMPTS = 4096
_BLIND: Mapping[Head, Head] = {"consistency": "alignment"}
# Some 400 words; what generates images reads 77 to 512 tokens of a prompt.
MAX_PROMPT_TOKENS = 512


class Scorer:
    """A folded network on a device, with its crop policy and its cache of prompts.

    It takes the network over: the towers are moved to the device and converted in place. Called
    like a metric of pyiqa, it gives a tensor (``__call__``).
    """

    # As pyiqa's metrics say it: high = better, and what the scores lie in.
    lower_better = False
    score_range = "0, 1"

    def __init__(
        self,
        config: CheckpointConfig,
        network: Network,
        *,
        device: str = "auto",
        dtype: str = "auto",
        crop_policy: CropPolicy | str | None = None,
        max_prompt_tokens: int = MAX_PROMPT_TOKENS,
        place: bool = True,
    ) -> None:
        """``max_prompt_tokens``: a prompt of more is refused; each 70 are a pass of the text tower.
        ``place`` False: the caller will, once all that share the backbone are folded.
        """
        self.config = config
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.planner = CropPlanner(config, choose_policy(config, crop_policy))
        check_policy(config.name, self.planner.policy, network)
        self.max_prompt_tokens = max_prompt_tokens
        self._tokenizer = network.tokenizer
        self._known_words = network.known_words
        self._net = network.eval().fold()
        self._prompts = KnownPrompts(_CACHED_PROMPTS)
        if place:
            self._net.place(self.device, self.dtype)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """Loads a checkpoint; see ``model.load``."""
        (scorer,) = cls.load_several([name_or_path], **options)
        return scorer

    @classmethod
    def load_several(
        cls, names_or_paths: Sequence[str | os.PathLike[str]], **options: Any
    ) -> list[Self]:
        """Loads checkpoints that share what they can: equal backbones are in memory once.

        All are folded before any is moved or converted, so each scores as if it were alone. Each
        must then pass its self-test.
        """
        shared: Shared = {}
        scorers = []
        for name in names_or_paths:
            try:
                config, network = load_network(find(name), shared)
                scorers.append(cls(config, network, place=False, **options))
            except (ModelError, ValueError) as error:
                if len(names_or_paths) > 1:
                    error.add_note(f"while loading {name}")
                raise
        for scorer in scorers:
            scorer._net.place(scorer.device, scorer.dtype)
        for scorer in scorers:
            self_test.check(scorer)
        return scorers

    @property
    def precision(self) -> str:
        """In which type it computes, and on which device."""
        return f"{str(self.dtype).removeprefix('torch.')} on {self.device}"

    def with_policy(self, policy: CropPolicy) -> Self:
        """The same network with other crops."""
        other = copy.copy(self)
        other.planner = CropPlanner(self.config, policy)
        return other

    def plan(
        self,
        width: int,
        height: int,
        heads: Iterable[Head] | None = None,
        prompt: str | None = None,
    ) -> Layout:
        """The rows of a ``width`` x ``height`` image, and what they cost; heads as for ``score``.

        Raises:
            ValueError: unfitting heads.
        """
        return self.planner.plan(width, height, heads, prompt)

    def crops(self, image: ImageSource, heads: Sequence[Head] | None = None) -> np.ndarray:
        """uint8 [n, 3, h, w]: the windows, then the global view where the heads need one."""
        planner, picture = self._opened(image)
        return planner.crops(picture, heads)

    @torch.inference_mode()
    def forward(
        self, crops: np.ndarray | Staged, row_crop: Sequence[int], row_pass: Sequence[int]
    ) -> np.ndarray:
        """Rows float32 [m, d]: row i is crop ``row_crop[i]`` in pass ``row_pass[i]``, each computed
        on its own.
        """
        if isinstance(crops, Staged):
            pixels = crops.pixels()
        else:
            pixels = torch.from_numpy(crops).to(self.device, non_blocking=True)
        pixels = normalise(pixels, self.config.normalisation)
        crop = torch.tensor(row_crop, device=self.device)
        which = torch.tensor(row_pass, device=self.device)
        return self._net(pixels, crop, which).cpu().numpy()

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Normalised text features float32 [n, d] on the CPU, each prompt computed once and kept
        (4096 at most).

        Raises:
            PromptTooLong: as ``check_prompt``; none of them was embedded.
        """
        asked = {prompt: self._prompts.get(prompt) for prompt in prompts}
        found = {prompt: known for prompt, known in asked.items() if known is not None}
        new = [prompt for prompt in asked if prompt not in found]
        for prompt in new:
            self.check_prompt(prompt)
        computed = self._net.embed(new).cpu() if new else ()
        for prompt, features in zip(new, computed, strict=True):
            found[prompt] = features
            self._prompts.keep(prompt, features)
        return torch.stack([found[prompt] for prompt in prompts])

    def knows(self, prompt: str) -> bool:
        """Whether the prompt's features are in the cache."""
        return prompt in self._prompts

    def check_prompt(self, prompt: str) -> None:
        """Refuses a prompt that has more than ``max_prompt_tokens``; embeds nothing.

        Raises:
            PromptTooLong: says how many it has.
        """
        count = 0 if self.knows(prompt) else len(self._tokenizer(prompt))
        if count > self.max_prompt_tokens:
            raise PromptTooLong(
                f"The prompt has {count} tokens (words and parts of words), "
                f"{self.max_prompt_tokens} at most; shorten it."
            )

    @torch.inference_mode()
    def reduce(self, rows: np.ndarray, layout: Layout, prompt: str | None = None) -> Score:
        """The Score of one image from all of its rows, in the order of its layout. Where the model
        lists the words that it knows and the prompt has none of them, consistency is alignment.

        Raises:
            ValueError: more or fewer rows than the layout has, or no prompt for consistency.
        """
        if len(rows) != layout.rows:
            raise ValueError(f"{len(rows)} rows, but the image's layout has {layout.rows}")
        chosen = self.planner.heads(layout.heads, prompted=prompt is not None)
        windows = layout.windows
        passes, counts = zip(*layout.passes, strict=True)
        parts = dict(zip(passes, torch.from_numpy(rows).split(counts), strict=True))
        t_user, known = None, True
        if prompt is not None and "consistency" in chosen:
            t_user = self.embed([prompt])[0]
            known = has_known_word(prompt, self._known_words)
        views: dict[Head, Views] = {}
        for head in chosen if known else self._blind(chosen):
            own = parts[PASSES[head]]
            whole = own[windows] if self.planner.counts_global_view(head) else None
            views[head] = Views(own[:windows], whole)
        score = self._net.read(views, t_user)
        return score if known else without_known_word(score, chosen)

    def __call__(self, image: "ImageSource | Tensor") -> Tensor:
        """Quality as pyiqa's metrics give it: float32 [N, 1] on the CPU, high = better, no
        gradient.

        Args:
            image: a path, a Pillow image and so on (N = 1), or a tensor [N, 3 or 1, h, w] in
                [0, 1], rounded to 8 bit.

        Raises:
            ValueError: a tensor of another shape or range.
        """
        pictures = from_tensor(image) if isinstance(image, Tensor) else [image]
        scores = [self.score(picture, heads=("quality",)).quality for picture in pictures]
        return torch.tensor(scores, dtype=torch.float32)[:, None]

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
            ValueError: unfitting prompts or heads; PromptTooLong among them.
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

    def rows(self, picture: Image.Image, layout: Layout) -> np.ndarray:
        """All rows float32 [m, d] of one upright RGB image, in the order of its layout."""
        crops = self.planner.cut(picture, layout)
        return self.forward(crops, layout.row_crop, layout.row_pass)

    def _blind(self, heads: Sequence[Head]) -> Sequence[Head]:
        """What is read instead of ``heads`` where the prompt has no known word: alignment in place
        of consistency, whose pass it shares, if the model has it.
        """
        if "alignment" not in self.config.heads:
            return heads
        return list(dict.fromkeys(_BLIND.get(head, head) for head in heads))

    def _score_one(
        self, source: ImageSource, prompt: str | None, heads: Sequence[Head] | None
    ) -> Score:
        planner, picture = self._opened(source)
        layout = planner.plan(*picture.size, heads, prompt)
        return self.reduce(self.rows(picture, layout), layout, prompt)

    def _opened(self, source: ImageSource) -> tuple[CropPlanner, Image.Image]:
        """The image, and who plans its crops; pixels have no file that places could hang on."""
        if isinstance(source, Image.Image | np.ndarray):
            return self.planner, images.read(source)
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return self.planner.for_file(data), images.read(data)


def from_tensor(images_: Tensor) -> list[Image.Image]:
    """8-bit images of a tensor [N, 3 or 1, h, w] in [0, 1].

    Raises:
        ValueError: another shape, or values outside of [0, 1].
    """
    if images_.ndim != 4 or images_.shape[1] not in {1, 3}:
        raise ValueError(f"a tensor of images is [N, 3, h, w]; this is {list(images_.shape)}")
    if not ((images_ >= 0) & (images_ <= 1)).all():
        raise ValueError("a tensor of images has values in [0, 1]; divide 8-bit values by 255")
    pixels = (images_.detach().float().cpu() * 255).round().to(torch.uint8)
    return [Image.fromarray(one.expand(3, -1, -1).permute(1, 2, 0).numpy()) for one in pixels]


def limit_threads(threads: int | None = None) -> None:
    """Has torch compute in so many threads on a CPU; None: its own choice, but no more than this
    process may use cores. torch knows nothing of a container's quota, and threads that share too
    few cores wait for each other.

    For a process that is there to compute: it keeps its memory, too (``keep_freed_memory``).
    """
    torch.set_num_threads(threads or min(torch.get_num_threads(), usable_cores()))
    keep_freed_memory()


def choose_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def every_device(device: str) -> list[str]:
    """Names of all devices that a comma list names; ``auto``: every CUDA device, else the CPU."""
    if device != "auto":
        return [name.strip() for name in device.split(",") if name.strip()]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{number}" for number in range(count)] or ["cpu"]


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the device multiplies it natively (CUDA, AMX, AVX-512 BF16), else
    float32.

    For tests alone: ``auto`` is what the environment variable ``TEST_AUTO_DTYPE`` names, float32 or
    bfloat16, so that one machine runs the suite as others do.

    Raises:
        ValueError: another name than these.
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise ValueError(f"dtype {dtype!r}: choose auto, float32 or bfloat16")
    # Not called AGIQA_*: those are the service's settings, which users set.
    forced = os.environ.get(AUTO_DTYPE)
    if forced is not None:
        if forced not in names:
            raise ValueError(f"{AUTO_DTYPE}={forced!r}: choose float32 or bfloat16, or unset it")
        return names[forced]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32
