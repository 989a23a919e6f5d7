"""The folder of parts: what is there, and files that are whole or not there."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from app.bulk.errors import CannotScore, Stopped
from app.bulk.parts.storage import file_system
from app.bulk.parts.units import PART
from model.store.files import write_atomically

RUN = "run.json"


class Output:
    """OUT, here or at an address of fsspec.

    A file of this machine is written beside its place and renamed; a store of objects takes a file
    in one request, and shows it when it has all of it.

    Raises:
        CannotScore: there can be no such folder.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._fs, self._root = file_system(address.rstrip("/") or "/")
        self._local = "file" in self._protocols()
        try:
            self._fs.makedirs(self._root, exist_ok=True)
        except Exception as error:  # the stores' own packages raise their own kinds
            raise CannotScore(f"{address}: {getattr(error, 'strerror', '') or error}") from error

    def parts(self) -> set[str]:
        """Names of the parts that are there."""
        self._fs.invalidate_cache()
        names = (str(entry).rpartition("/")[2] for entry in self._fs.ls(self._root, detail=False))
        return {name for name in names if PART.fullmatch(name)}

    def has(self, name: str) -> bool:
        """Whether it is there by now."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._path(name)))

    def put(self, name: str, data: bytes) -> None:
        """Writes a file, in the place of one that is there.

        Raises:
            Stopped: it can't be written, as will be the next ones.
        """
        try:
            if self._local:
                write_atomically(Path(self._path(name)), data)
            else:
                self._fs.pipe_file(self._path(name), data)
        except Exception as error:  # the stores' own packages raise their own kinds
            raise Stopped(f"{self.address}/{name} can't be written: {error}") from error

    def claim(self, run: Mapping[str, Any]) -> None:
        """Says in ``run.json`` what the parts are made of, if nobody has.

        Raises:
            CannotScore: they are made of something else; the message names what differs.
        """
        if self.run() is None:
            self._create(RUN, json.dumps(run, indent=2).encode())
        was = self.run() or {}
        for name, value in run.items():
            if was.get(name) != value:
                raise CannotScore(
                    f"{self.address} holds parts with {name} {_short(was.get(name))}, this run has "
                    f"{_short(value)}: name another folder"
                )

    def run(self) -> dict[str, Any] | None:
        """What ``run.json`` says; None: there is none.

        Raises:
            CannotScore: it is something else.
        """
        self._fs.invalidate_cache()
        try:
            run = json.loads(self._fs.cat_file(self._path(RUN)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CannotScore(f"{self.address}/{RUN} is none of agiqa score") from error
        if not isinstance(run, dict):
            raise CannotScore(f"{self.address}/{RUN} is none of agiqa score")
        return run

    def _create(self, name: str, data: bytes) -> None:
        """Writes a file unless there is one: of two jobs that begin at once, one is first."""
        if not self._local:
            try:
                self._fs.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return
            except (NotImplementedError, TypeError, ValueError):  # a store that can't
                self._fs.pipe_file(self._path(name), data)
            return
        with NamedTemporaryFile(dir=self._root, prefix=f".{name}.") as temporary:
            temporary.write(data)
            temporary.flush()
            os.fchmod(temporary.fileno(), 0o644)
            try:
                os.link(temporary.name, self._path(name))
            except FileExistsError:
                return

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _protocols(self) -> tuple[str, ...]:
        protocol = self._fs.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
