"""The prompt inside an image, as the programs that generate images write it.

AUTOMATIC1111 (and Forge, SD.Next): a text ``parameters``, in PNG as a text chunk, in JPEG and WebP
as the EXIF user comment:

    a cat on a mat
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, ...

ComfyUI: the JSON of the workflow as PNG text ``prompt``, node id -> {"class_type", "inputs"}; an
input is a value, or [node id, output]. The prompt is the text that leads to the input ``positive``
of the samplers.

Read by hand: sd-parsers, the library for it, has had no release since March 2025.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from PIL import ExifTags, Image

_END = re.compile(r"^(?:Negative prompt:|Steps: \d)", re.MULTILINE)
_NETWORK = re.compile(r"<[\w-]+:[^<>]*>")  # <lora:name:0.8>
_WEIGHT = re.compile(r"\(([^()]*?):\s*[\d.]+\)")  # (word:1.2)
_STEPS = re.compile(r"^Steps: \d+,", re.MULTILINE)
# Inputs that may hold the text, or a link to it, in the order in which they are looked at.
_ON_THE_WAY = (
    *("text", "text_g", "t5xxl", "clip_l", "string", "value", "prompt"),
    *("conditioning", "conditioning_1", "conditioning_to"),
)


def embedded_prompt(image: Path | IO[bytes]) -> str | None:
    """The positive prompt in the image's metadata; None if there is none that is certain.

    Networks (``<lora:...>``) and the weights of words are left out: they are no words of the
    prompt.
    """
    try:
        with Image.open(image, formats=("PNG", "JPEG", "WEBP")) as opened:
            written = opened.info.get("parameters") or _comment(opened)
            graph = opened.info.get("prompt")
    except Exception:  # noqa: BLE001 - Pillow raises all kinds; scoring tells what is wrong
        return None
    if isinstance(written, str) and (prompt := _of_parameters(written)):
        return prompt
    return _of_graph(graph) if isinstance(graph, str) else None


def _of_parameters(text: str) -> str | None:
    return _plain(_END.split(text, maxsplit=1)[0])


def _comment(image: Image.Image) -> str | None:
    """The EXIF user comment, if it holds what AUTOMATIC1111 writes."""
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if not isinstance(comment, bytes):
        return None
    kind, body = comment[:8], comment[8:]
    texts = [body.decode("utf-16-be", "replace"), body.decode("utf-16-le", "replace")]
    if not kind.startswith(b"UNICODE"):
        texts = [body.decode("utf-8", "replace")]
    return next((text for text in texts if _STEPS.search(text)), None)


def _of_graph(text: str) -> str | None:
    try:
        nodes = json.loads(text)
        if not isinstance(nodes, dict):
            return None
        inputs = {name: _inputs(node) for name, node in nodes.items()}
        starts = map(_positive, nodes.values())
        found = {prompt for start in starts if (prompt := _text(inputs, start, set()))}
    except (ValueError, RecursionError):  # no JSON, or a chain of nodes that nobody draws
        return None
    return _plain(found.pop()) if len(found) == 1 else None


def _inputs(node: Any) -> dict[str, Any]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _positive(node: Any) -> list[Any] | None:
    """What is linked to the input ``positive`` of a node that takes one (samplers, and the guiders
    and control nets before them), or to a guider that takes but one conditioning.
    """
    inputs = _inputs(node)
    guides = inputs and str(node.get("class_type", "")).endswith("Guider")
    link = inputs.get("positive", inputs.get("conditioning") if guides else None)
    return link if isinstance(link, list) else None


def _text(nodes: Mapping[str, Mapping[str, Any]], link: Any, seen: set[str]) -> str | None:
    """Follows links through the nodes' inputs up to the one text that they lead to."""
    if isinstance(link, str):
        return link.strip() or None
    name = str(link[0]) if isinstance(link, list) and link else ""
    if name in seen:  # a ring
        return None
    seen.add(name)
    inputs = nodes.get(name, {})
    order = ("positive",) if "positive" in inputs else _ON_THE_WAY
    texts = (_text(nodes, inputs[key], seen) for key in order if key in inputs)
    return next(filter(None, texts), None)


def _plain(prompt: str) -> str | None:
    text, before = _NETWORK.sub("", prompt), None
    while text != before:
        text, before = _WEIGHT.sub(r"\1", text), text
    return " ".join(text.split()).strip(" ,") or None
