"""The file of API keys: names, hashes, shares and limits, read again when it changes.

[[keys]]
name = "gallery"      # what the log calls whoever has it
sha256 = "9f86d0..."  # of the key; ``agiqa key gallery`` makes both
weight = 1            # its share beside the others
concurrency = 0       # most requests under way; 0: any number
"""

import hashlib
import logging
import re
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.settings import SettingsError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_MOST_BYTES = 2**20
_NUMBERED = re.compile(r"(?:admin-)?key-\d+")


class Key(BaseModel):
    """One key, of which the service knows the hash alone.

    Attributes:
        name: what the log calls it.
        sha256: of the key, as hexadecimal digits.
        weight: its share beside those of others.
        concurrency: most requests of it under way at a time; 0: any number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=r"^[\w.@-]{1,64}$")
    sha256: str
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    concurrency: int = Field(default=0, ge=0)

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if _NUMBERED.fullmatch(value):
            raise ValueError("so the keys of AGIQA_API_KEYS and AGIQA_ADMIN_KEYS are called")
        return value

    @field_validator("sha256")
    @classmethod
    def _is_a_hash(cls, value: str) -> str:
        # The message must not show it: it may be the key itself, by mistake.
        if not re.fullmatch("[0-9a-fA-F]{64}", value):
            raise ValueError("64 hexadecimal digits are needed; `agiqa key NAME` prints them")
        return value.lower()


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    keys: list[Key] = Field(min_length=1)


def hash_of(key: bytes) -> str:
    """What stands for a key in the file. Keys are long and random, so one round is enough."""
    return hashlib.sha256(key).hexdigest()


def read_keys(path: Path) -> Mapping[str, Key]:
    """The keys of a file, by hash.

    Raises:
        SettingsError: names the file, the key and what is wrong with it, all faults at once.
    """
    try:
        content = tomllib.loads(_text(path))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        keys = _Content.model_validate(content).keys
    except ValidationError as error:
        faults = [f"{_place(content, e['loc'])}: {e['msg']}" for e in error.errors()]
        raise _unusable(path, faults) from None
    if faults := _duplicates(keys):
        raise _unusable(path, faults)
    return {key.sha256: key for key in keys}


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError("there is no such file")
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError("over 1 MiB")
    return data.decode()


def _unusable(path: Path, faults: list[str]) -> SettingsError:
    return SettingsError(f"{path}: the keys can't be used:\n  " + "\n  ".join(faults))


def _place(content: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    """Which key, and what of it."""
    if len(location) < 2:
        return ".".join(map(str, location))
    number = int(location[1])
    entry = content["keys"][number]
    name = entry.get("name") if isinstance(entry, dict) else None
    return ": ".join([f"key {number + 1} ({name!r})", *map(str, location[2:])])


def _duplicates(keys: list[Key]) -> list[str]:
    faults, seen = list[str](), dict[str, int]()
    for number, key in enumerate(keys, 1):
        for field, value in (("name", key.name), ("sha256", key.sha256)):
            first = seen.setdefault(f"{field} {value}", number)
            if first != number:
                faults.append(f"key {number} ({key.name!r}): {field}: key {first} has it already")
    return faults


class KeyFile:
    """The keys of a file as it is now; while it can't be used, as it was before."""

    def __init__(self, path: Path) -> None:
        """Reads it.

        Raises:
            SettingsError: it can't be used.
        """
        self._path = path
        self._seen = _version(path)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.by_hash = read_keys(path)

    def start(self) -> None:
        """Looks every second from now on, in a thread: a file may be slow to reach."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._watch, name="keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Looks no more; does not wait for a file that can't be reached."""
        self._stopped.set()

    def refresh(self) -> None:
        """Reads it again if it has changed."""
        version = _version(self._path)
        if version == self._seen:
            return
        self._seen = version
        try:
            self.by_hash = read_keys(self._path)
        except SettingsError as error:
            logger.error("the keys stay as they were: %s", error)
        else:
            logger.info("read %d keys from %s", len(self.by_hash), self._path)

    def _watch(self) -> None:
        while not self._stopped.wait(_POLL_SECONDS):
            try:
                self.refresh()
            except Exception:
                logger.exception("the file of keys can't be looked at")


def _version(path: Path) -> tuple[int, ...] | None:
    """Changes with the file's content, whether it is written to or replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
