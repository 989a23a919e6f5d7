"""Mixed load on a running service, as unlike clients send it: something for the dashboard to show.

    python -m benchmarks.load [http://127.0.0.1:8000] [--seconds 60] [--clients 4]
                              [--degraded 0.5] [--kinds photograph,prompted]

The images are scikit-image's own; degraded ones are blurred and compressed hard.
"""

import argparse
import concurrent.futures
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
import skimage.data
from PIL import Image, ImageFilter

SIZES = ((320, 240), (512, 512), (768, 512), (1024, 768))
PROMPTS = ("an astronaut", "a cup of coffee", "a cat looks at you", "a rocket on its pad")
# Those that come with scikit-image's wheel; others would be downloaded.
_SUBJECTS = ("astronaut", "coffee", "chelsea", "rocket")


@dataclass
class Client:
    """One connection, and what it sends."""

    http: httpx.Client
    random: random.Random
    good: Sequence[bytes]
    poor: Sequence[bytes]
    degraded: float = 0.0  # part of the images

    def image(self) -> bytes:
        """One of the images."""
        kind = self.poor if self.random.random() < self.degraded else self.good
        return self.random.choice(kind)

    def one(
        self,
        path: str,
        image: bytes,
        *,
        data: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Sends one image; returns the status."""
        files = {"image": ("image.jpg", image)}
        answer = self.http.post(path, files=files, data=data, params=params, headers=headers)
        return answer.status_code

    def several(self, path: str, images: Sequence[bytes]) -> int:
        """Sends a batch call; returns the status."""
        files = [("images", ("image.jpg", data)) for data in images]
        return self.http.post(path, files=files).status_code


def _prompted(client: Client) -> int:
    prompt = client.random.choice(PROMPTS)
    return client.one("/score-agi", client.image(), data={"prompt": prompt})


def _batch(client: Client) -> int:
    return client.several("/score/batch", [client.image(), b"no image", client.image()])


KINDS: dict[str, Callable[[Client], int]] = {
    "photograph": lambda client: client.one("/score", client.image()),
    "generated": lambda client: client.one("/score-agi", client.image()),
    "prompted": _prompted,
    "batch": _batch,
    "other_model": lambda c: c.one("/score", c.image(), params={"model": "tiny-clip-agiqa"}),
    "hurried": lambda c: c.one("/score", c.image(), headers={"X-Request-Timeout": "0.02"}),
    "broken": lambda client: client.one("/score", client.image()[:900]),
    "no_image": lambda client: client.one("/score", b"no image"),
    "unknown_model": lambda c: c.one("/score", c.image(), params={"model": "none"}),
}
FAULTY = ("hurried", "broken", "no_image", "unknown_model")
# Seconds before a client that was refused comes again; less than Retry-After asks for.
_PAUSE = 0.5
# How often each is sent; what is not here, once.
_OFTEN = {"photograph": 8, "prompted": 4, "generated": 2, "batch": 2}


def subjects() -> tuple[list[bytes], list[bytes]]:
    """JPEG files of several sizes, and degraded ones of the same."""
    good, poor = [], []
    for name in _SUBJECTS:
        whole = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        for size in SIZES:
            image = whole.resize(size, Image.Resampling.BICUBIC)
            good.append(_jpeg(image, 92))
            poor.append(_jpeg(image.filter(ImageFilter.GaussianBlur(5)), 8))
    return good, poor


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@dataclass
class Load:
    """Clients that send one request after another, until ``seconds`` have passed."""

    url: str
    seconds: float
    clients: int = 4
    degraded: float = 0.0
    kinds: Sequence[str] = tuple(KINDS)
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)

    def run(self) -> Counter[tuple[str, int]]:
        """Kind and status -> how many; status 0 is a connection that failed."""
        good, poor = subjects()
        end, lock = time.monotonic() + self.seconds, threading.Lock()
        weights = [_OFTEN.get(kind, 1) for kind in self.kinds]

        def work(number: int) -> None:
            chance = random.Random(number)
            # Each kind once at first, so that a short load has them all.
            firsts = list(self.kinds[number :: self.clients])
            with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
                client = Client(http, chance, good, poor, self.degraded)
                while time.monotonic() < end:
                    kind = firsts.pop() if firsts else chance.choices(self.kinds, weights)[0]
                    status = _sent(client, kind)
                    with lock:
                        self.seen[kind, status] += 1

        with concurrent.futures.ThreadPoolExecutor(self.clients) as pool:
            list(pool.map(work, range(self.clients)))
        return self.seen


def _sent(client: Client, kind: str) -> int:
    try:
        status = KINDS[kind](client)
    except httpx.TransportError:
        status = 0
    if status in {0, 429, 503}:
        time.sleep(_PAUSE)
    return status


def main() -> None:
    """Sends the load and prints what came back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--degraded", type=float, default=0.0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    load = Load(given.url, given.seconds, given.clients, given.degraded, kinds)
    for (kind, status), count in sorted(load.run().items()):
        print(f"{kind:14} {status or 'no answer'}  {count}")


if __name__ == "__main__":
    main()
