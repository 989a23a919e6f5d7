"""Scores of rivals on disk: a metric that takes a second an image is not asked twice about one.

A file per metric in ``$XDG_CACHE_HOME/agiqa/rivals`` (``~/.cache`` where that is not set), a line
per image, written as soon as it is scored; a line that a killed run left half-written is no score.
Where nothing can be written, nothing is kept.
"""

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)


class ScoreCache:
    """The scores of one metric in one version."""

    def __init__(self, metric: str) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        name = re.sub(r"[^\w.+-]", "_", metric)
        self.path = Path(base) / "agiqa" / "rivals" / f"{name}.jsonl"
        self._scores: dict[str, float] = {}
        self._read = False

    def get(self, key: str, compute: Callable[[], float]) -> float:
        """The score kept under the key, else the computed one, which is kept from now on."""
        if not self._read:
            self._scores, self._read = self._kept(), True
        if key not in self._scores:
            self._scores[key] = compute()
            self._append(key)
        return self._scores[key]

    def _kept(self) -> dict[str, float]:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        return dict(filter(None, map(_score, lines)))

    def _append(self, key: str) -> None:
        line = json.dumps([key, self._scores[key]])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # From a new line, in case a killed run left half of one.
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}")
        except OSError as error:
            logger.debug("rivals' scores can't be kept: %s", error)


def _score(line: str) -> tuple[str, float] | None:
    try:
        key, score = json.loads(line)
        value = float(score)
    except (ValueError, TypeError):
        return None
    return (str(key), value) if math.isfinite(value) else None


def digest(path: Path, prompt: str | None = None) -> str:
    """What an image is, wherever it lies; with the prompt that it is compared with."""
    with path.open("rb") as file:
        own = hashlib.file_digest(file, "sha256")
    if prompt is not None:
        own.update(b"\0" + prompt.encode("utf-8", "surrogatepass"))
    return own.hexdigest()
