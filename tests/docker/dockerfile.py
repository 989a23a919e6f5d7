"""Reads what the tests need of a Dockerfile: instructions, stage by stage."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    stage: int  # -1 before the first FROM
    verb: str
    rest: str

    @property
    def shell(self) -> str:
        """A RUN's command line, without its mounts."""
        return re.sub(r"^(--\S+\s+)+", "", self.rest)


def instructions() -> list[Instruction]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found: list[Instruction] = []
    stage = -1
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        verb, _, rest = line.partition(" ")
        stage += verb == "FROM"
        found.append(Instruction(stage, verb, rest.strip()))
    return found


def copied() -> list[str]:
    """What COPY takes from the repository."""
    copies = [i.rest.split() for i in instructions() if i.verb == "COPY"]
    return [
        source for words in copies if not words[0].startswith("--from") for source in words[:-1]
    ]


def only(verb: str, containing: str = "") -> Instruction:
    (found,) = [i for i in instructions() if i.verb == verb and containing in i.rest]
    return found
