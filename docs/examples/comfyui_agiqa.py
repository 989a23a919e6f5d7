"""Two nodes for ComfyUI: "agiqa: score" and "agiqa: best of n".

Copy this file into ComfyUI's ``custom_nodes`` and ``agiqa_client.py`` beside ComfyUI's ``main.py``,
and run a service (``agiqa serve``): no model is loaded into ComfyUI's process. A service's key is
read from the environment's AGIQA_API_KEY.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from agiqa_client import Client, Item, Score

_HEADS = ("quality", "alignment", "consistency")
_SERVICE = {"service": ("STRING", {"default": "http://127.0.0.1:8000"})}
_PROMPT = ("STRING", {"default": "", "multiline": True, "tooltip": "Of the images; may be empty."})


def score_images(images: torch.Tensor, prompt: str, service: str) -> list[Score]:
    """The scores of a batch [b, h, w, c] of floats in [0, 1].

    Raises:
        AgiqaError: no service, or an image without a score; ComfyUI shows the sentence.
    """
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    items = [Item(Image.fromarray(np.ascontiguousarray(one[..., :3])), prompt) for one in pixels]
    scores = []
    with Client(service) as client:
        for _, score in client.score_many(items):
            if not isinstance(score, Score):
                raise score
            scores.append(score)
    return scores


def value_of(score: Score, head: str) -> float:
    """A head's value; not a number where the model, or an empty prompt, gives none."""
    value = getattr(score, head)
    return math.nan if value is None else float(value)


def report(scores: Sequence[Score]) -> str:
    """A line of text per image."""
    lines = [
        f"{place}: " + ", ".join(f"{head} {value_of(score, head):.3f}" for head in _HEADS)
        for place, score in enumerate(scores)
    ]
    return "\n".join(lines)


class AgiqaScore:
    """Quality, alignment and consistency of each image of a batch."""

    CATEGORY = "agiqa"
    FUNCTION = "score"
    RETURN_TYPES = ("FLOAT", "FLOAT", "FLOAT", "STRING")
    RETURN_NAMES = (*_HEADS, "report")
    OUTPUT_IS_LIST = (True, True, True, False)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI draws the node from these."""
        return {"required": {"images": ("IMAGE",), "prompt": _PROMPT}, "optional": _SERVICE}

    def score(
        self, images: torch.Tensor, prompt: str, service: str = "http://127.0.0.1:8000"
    ) -> dict[str, Any]:
        """A list of values per head, and the report, which the node shows too."""
        scores = score_images(images, prompt, service)
        columns = [[value_of(score, head) for score in scores] for head in _HEADS]
        text = report(scores)
        return {"ui": {"text": [text]}, "result": (*columns, text)}


class AgiqaBestOfN:
    """The best images of a batch, best first."""

    CATEGORY = "agiqa"
    FUNCTION = "choose"
    RETURN_TYPES = ("IMAGE", "FLOAT", "INT", "STRING")
    RETURN_NAMES = ("images", "scores", "places", "report")
    OUTPUT_IS_LIST = (False, True, True, False)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI draws the node from these."""
        threshold = {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01}
        required = {
            "images": ("IMAGE",),
            "prompt": _PROMPT,
            "by": (["consistency", "quality", "alignment"],),
            "n": ("INT", {"default": 1, "min": 1, "max": 4096}),
            "threshold": ("FLOAT", threshold | {"tooltip": "Images below it are left out."}),
        }
        return {"required": required, "optional": _SERVICE}

    def choose(
        self,
        images: torch.Tensor,
        prompt: str,
        by: str,
        n: int,
        threshold: float,
        service: str = "http://127.0.0.1:8000",
    ) -> tuple[torch.Tensor, list[float], list[int], str]:
        """At most ``n`` images, their scores, and their places in the batch.

        Raises:
            ValueError: nothing to choose by, or no image reaches the threshold.
        """
        scores = score_images(images, prompt, service)
        values = [value_of(score, by) for score in scores]
        if any(map(math.isnan, values)):
            raise ValueError(f"There is no {by}: give a prompt, or serve a model that has it.")
        order = sorted(range(len(values)), key=lambda place: -values[place])
        kept = [place for place in order if values[place] >= threshold][:n]
        if not kept:
            raise ValueError(f"No image has {by} {threshold:g}; the best has {max(values):.3f}.")
        return images[kept], [values[place] for place in kept], kept, report(scores)


NODE_CLASS_MAPPINGS = {"AgiqaScore": AgiqaScore, "AgiqaBestOfN": AgiqaBestOfN}
NODE_DISPLAY_NAME_MAPPINGS = {"AgiqaScore": "agiqa: score", "AgiqaBestOfN": "agiqa: best of n"}


def main() -> None:
    """Runs the scoring node on image files of one size, to try it without ComfyUI."""
    parser = argparse.ArgumentParser(description="Run the node on image files of one size.")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--prompt", default="")
    parser.add_argument("--service", default="http://127.0.0.1:8000")
    given = parser.parse_args()
    arrays = [np.asarray(Image.open(file).convert("RGB")) / np.float32(255) for file in given.files]
    images = torch.from_numpy(np.stack(arrays))
    sys.stdout.write(AgiqaScore().score(images, given.prompt, given.service)["result"][3] + "\n")


if __name__ == "__main__":
    main()
