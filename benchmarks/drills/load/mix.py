"""What a load sends: requests whose bytes are made beforehand, so that sending costs little."""

import functools
import io
import itertools
import random
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import skimage.data
from PIL import Image

from benchmarks.drills import raw

_SUBJECTS = ("astronaut", "coffee", "chelsea", "rocket")
# Of never-repeating prompts: each as long as the others, so the length of a body is known.
_WORDS = 6
_LETTERS = 6
_LARGE = 8 * 2**20


@dataclass(frozen=True)
class Request:
    """Its bytes, in parts, and how many of them are the head."""

    parts: tuple[bytes, ...]
    head: int
    images: int = 1


@dataclass(frozen=True)
class Mix:
    """Images that are sent in turn, one a request or several.

    Attributes:
        path: the endpoint.
        images: files.
        per_call: images in a request; 0: one, to an endpoint for single ones.
        prompts: whether each image has a prompt that never came before.
        headers: beyond those of HTTP.
    """

    path: str
    images: Sequence[bytes]
    per_call: int = 0
    prompts: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def requests(self, seed: int) -> Iterator[Request]:
        """Without an end; the same for a seed."""
        words = random.Random(seed)
        images = itertools.cycle(self.images)
        if self.prompts:
            while True:
                yield self._request(images, functools.partial(never_before, words))
        count = len(self.images)
        yield from itertools.cycle([self._request(images, None) for _ in range(count)])

    def _request(self, images: Iterator[bytes], prompt: Callable[[], str] | None) -> Request:
        count = max(1, self.per_call)
        suffix = "s" if self.per_call else ""
        parts = []
        for image in itertools.islice(images, count):
            if prompt:
                parts.append(raw.part("prompt" + suffix, prompt().encode()))
            parts += raw.file_part("image" + suffix, image)
        parts.append(raw.END)
        head = raw.head("POST", self.path, sum(map(len, parts)), self.headers)
        return Request((head, *parts), len(head), count)


def never_before(words: random.Random) -> str:
    """A prompt of words that no tokenizer has cached."""
    return " ".join(
        "".join(words.choices(string.ascii_lowercase, k=_LETTERS)) for _ in range(_WORDS)
    )


def photographs(width: int = 512, height: int = 512) -> list[bytes]:
    """JPEG files of that size."""
    wholes = [Image.fromarray(getattr(skimage.data, name)()) for name in _SUBJECTS]
    return [_file(w.convert("RGB").resize((width, height)), "JPEG", quality=90) for w in wholes]


def large_uploads() -> list[bytes]:
    """Files of 8 MiB that cost no more to score than small ones: their bytes are all that counts.

    Decoders ignore what follows an image.
    """
    return [file + bytes(_LARGE - len(file)) for file in photographs()]


def _file(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def small() -> Mix:
    """Photographs of 512 x 512 for their quality."""
    return Mix("/score", photographs())


def large() -> Mix:
    """Uploads of 8 MiB."""
    return Mix("/score", large_uploads())


def prompted() -> Mix:
    """Photographs of 512 x 512 with prompts that never repeat."""
    return Mix("/score-agi", photographs(), prompts=True)


MIXES: Mapping[str, Callable[[], Mix]] = {"small": small, "large": large, "prompted": prompted}
