"""A unit of work, which becomes one part."""

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Literal

from app.bulk.errors import CannotScore

Kind = Literal["files", "parquet", "arrow", "tar"]
PART = re.compile(r"part-[0-9a-f]{32}\.parquet")


@dataclass(frozen=True, slots=True)
class Unit:
    """Images that are scored together.

    Args:
        kind: files by name, or what holds the images.
        source: address of what holds them.
        size: of the source in bytes: another file under the same name is another input.
        start: first row of a Parquet file.
        stop: the row after the last.
        names: addresses of files.
    """

    kind: Kind
    source: str = ""
    size: int = 0
    start: int = 0
    stop: int = 0
    names: tuple[str, ...] = ()

    @property
    def part(self) -> str:
        """Name of the part: a digest of the input and its range, whoever works on it."""
        digest = hashlib.sha256()
        numbers = (str(number) for number in (self.size, self.start, self.stop))
        for text in (self.kind, self.source, *numbers, *self.names):
            digest.update(os.fsencode(text) + b"\0")
        return f"part-{digest.hexdigest()[:32]}.parquet"

    @property
    def place(self) -> str:
        """What people look for when the unit fails."""
        return self.source or f"{self.names[0]} and {len(self.names) - 1} files after it"


@dataclass(frozen=True, slots=True)
class Shard:
    """Every ``count``-th unit, from number ``index`` on."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise CannotScore(
                f"shard {self.index}/{self.count}: shards are numbered from 0 to {self.count - 1}"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From ``i/n``.

        Raises:
            CannotScore: it is written otherwise, or i is not in 0 to n - 1.
        """
        if not (match := re.fullmatch(r"(\d+)/(\d+)", text)):
            raise CannotScore(f"--shard {text}: write it as i/n, 0/8 to 7/8 of eight")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of_environment(cls, environment: "os._Environ[str] | dict[str, str]") -> "Shard":
        """What an array job says: of Kubernetes ``JOB_COMPLETION_INDEX``, with the manifest's own
        ``JOB_COMPLETIONS`` (Kubernetes sets no count); of SLURM ``SLURM_ARRAY_TASK_ID`` with
        ``_COUNT``, ``_MIN`` and ``_STEP``, since arrays may begin anywhere. Else all units.

        Raises:
            CannotScore: there is an index without a count, or an array with gaps (1,3,9).
        """
        if index := environment.get("JOB_COMPLETION_INDEX"):
            if not (count := environment.get("JOB_COMPLETIONS")):
                raise CannotScore(
                    "JOB_COMPLETION_INDEX is set, and how many there are is not: set "
                    "JOB_COMPLETIONS to the Job's completions, or give --shard i/n"
                )
            return cls.parse(f"{index}/{count}")
        if task := environment.get("SLURM_ARRAY_TASK_ID"):
            tasks = int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))
            first = int(environment.get("SLURM_ARRAY_TASK_MIN", task))
            step = int(environment.get("SLURM_ARRAY_TASK_STEP") or 1)
            number, rest = divmod(int(task) - first, step)
            if rest or number >= tasks:
                raise CannotScore(
                    f"task {task} is of an array with gaps, so nobody knows which share is its: "
                    "give --shard i/n"
                )
            return cls(number, tasks)
        return cls()
