"""What the installation can do, for ``agiqa doctor``.

Each function answers with facts or raises; what they mean to a person is told by the caller.
"""

import io
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from model.config import Head
from model.preprocess import images
from model.self_test import draw_picture

# As Pillow names them; AVIF and JPEG 2000 are built in or not.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")


@dataclass(frozen=True)
class Torch:
    """The installed torch, and what ``auto`` chooses with it."""

    version: str
    cuda: str | None
    device: str
    dtype: str
    device_name: str
    device_bytes: int | None
    threads: int


@dataclass(frozen=True)
class Trial:
    """A checkpoint that loaded and scored a picture."""

    revision: str
    is_sealed: bool
    heads: tuple[Head, ...]
    seconds_to_load: float
    seconds_to_score: float


def torch_facts(device: str = "auto", dtype: str = "auto") -> Torch:
    """What torch is there and what it would use.

    Raises:
        ImportError: there is none that can be imported.
        RuntimeError, ValueError: the device or dtype can't be used.
    """
    import torch

    from model.scorer import choose_device, choose_dtype

    chosen = choose_device(device)
    torch.zeros(1, device=chosen)
    name, memory = "CPU", None
    if chosen.type == "cuda":
        properties = torch.cuda.get_device_properties(chosen)
        name, memory = properties.name, properties.total_memory
    return Torch(
        torch.__version__,
        torch.version.cuda,
        str(chosen),
        str(choose_dtype(dtype, chosen)).removeprefix("torch."),
        name,
        memory,
        torch.get_num_threads(),
    )


def import_open_clip() -> str:
    """Version of open_clip, imported in a process of its own since that takes seconds.

    Raises:
        ImportError: it can't be imported; the message is the last line that Python printed.
    """
    done = subprocess.run(
        [sys.executable, "-c", "import open_clip; print(open_clip.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ImportError((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    return done.stdout.split()[-1]


def undecodable(formats: Sequence[str] = FORMATS) -> dict[str, str]:
    """Format -> why, for each that an image written by this installation is not read back from."""
    picture = draw_picture(1)
    faults: dict[str, str] = {}
    for name in formats:
        try:
            with io.BytesIO() as file:
                picture.save(file, name)
                decoded = images.decode(file.getvalue())
            if decoded.size != picture.size:
                faults[name] = f"comes back as {decoded.size}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            faults[name] = str(error) or type(error).__name__
    return faults


def try_checkpoint(name_or_path: str, device: str = "auto", dtype: str = "auto") -> Trial:
    """Loads a checkpoint and scores a picture by every head.

    Raises:
        ModelError, OSError, RuntimeError, ValueError: it can't be loaded or used.
        ArithmeticError: a score is no number in [0, 1].
    """
    from model.scorer import Scorer

    start = time.perf_counter()
    scorer = Scorer.load(name_or_path, device=device, dtype=dtype)
    loaded = time.perf_counter()
    prompt = "a test picture" if "consistency" in scorer.config.heads else None
    score = scorer.score(draw_picture(1), prompt)
    done = time.perf_counter()
    config = scorer.config
    for head in config.heads:
        if not 0 <= (value := getattr(score, head)) <= 1:
            raise ArithmeticError(f"{head} is {value}, not within 0 and 1")
    return Trial(config.revision, config.is_sealed, config.heads, loaded - start, done - loaded)
