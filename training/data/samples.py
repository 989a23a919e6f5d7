"""What a data set says about an image, whatever the set."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One rated image: scores in [0, 1], high = better; what a set does not tell is None or empty.

    ``group`` is what a split must not tear apart: the prompt, the reference image, or the image.
    ``part`` is the part of the split that the set itself puts the image into.
    """

    dataset: str
    path: Path
    group: str
    mos: float
    mos_align: float | None = None
    prompt: str = ""
    generator: str = ""
    mode: str = ""
    scenes: tuple[str, ...] = ()
    distortion: str = ""
    part: str = ""

    @property
    def source(self) -> str:
        """Generator and mode, as the no-image floor and the captions use them; empty for
        photographs.
        """
        return f"{self.generator} {self.mode}".strip()
