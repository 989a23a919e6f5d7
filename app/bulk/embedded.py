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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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


def embedded_prompt(image: Path) -> str | None:
    """The positive prompt in the image's metadata; None if there is none that is certain.

    Networks (``<lora:...>``) and the weights of words are left out: they are no words of the
    prompt.
    """
    try:
        with Image.open(image, formats=("PNG", "JPEG", "WEBP")) as opened:
            written = opened.info.get("parameters") or _comment(opened)
            graph = opened.info.get("prompt")
    except (OSError, SyntaxError, ValueError, LookupError, TypeError):
        return None  # scoring tells what is wrong with the file
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
        found = {prompt for start in _positives(nodes) if (prompt := _text(nodes, start, set()))}
    except (ValueError, RecursionError):  # no JSON, or a chain of nodes that nobody draws
        return None
    return _plain(found.pop()) if len(found) == 1 else None


def _positives(nodes: Mapping[str, Any]) -> Iterator[Any]:
    """What is linked to the input ``positive`` of the nodes that take one (samplers, and the
    guiders and control nets before them), or to a guider that takes but one conditioning.
    """
    for node in nodes.values():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if not isinstance(inputs, dict):
            continue
        guides = str(node.get("class_type", "")).endswith("Guider")
        link = inputs.get("positive", inputs.get("conditioning") if guides else None)
        if isinstance(link, list):
            yield link


def _text(nodes: Mapping[str, Any], link: Any, seen: set[str]) -> str | None:
    """Follows links up to the one text that they lead to."""
    if isinstance(link, str):
        return link.strip() or None
    name = str(link[0]) if isinstance(link, list) and link else None
    node = nodes.get(name) if name is not None and name not in seen else None
    inputs = node.get("inputs") if isinstance(node, dict) else None
    if name is None or not isinstance(inputs, dict):
        return None
    seen.add(name)
    order = ("positive",) if "positive" in inputs else _ON_THE_WAY
    texts = (_text(nodes, inputs[key], seen) for key in order if key in inputs)
    return next((text for text in texts if text), None)


def _plain(prompt: str) -> str | None:
    text, before = _NETWORK.sub("", prompt), None
    while text != before:
        text, before = _WEIGHT.sub(r"\1", text), text
    return " ".join(text.split()).strip(" ,") or None
