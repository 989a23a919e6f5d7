"""Files here and at addresses of fsspec (``s3://``, ``gs://``, ``hf://``, ``memory://`` ...)."""

import os
from typing import IO, Any

import fsspec

from app.bulk.errors import CannotScore


def is_address(name: str) -> bool:
    """Whether fsspec opens it; everything else is a path of this machine."""
    return "://" in name


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address or a local path, and the path in it.

    Raises:
        CannotScore: the package for such addresses is missing, or does not take it.
    """
    if not is_address(address):
        return fsspec.filesystem("file"), os.path.abspath(address)
    try:
        fs, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise CannotScore(f"{address}: {error}") from error
    return fs, path


def opened(address: str) -> IO[bytes]:
    """A file for reading, with OSError for all that may go wrong."""
    if not is_address(address):
        return open(address, "rb")
    try:
        fs, path = file_system(address)
        file: IO[bytes] = fs.open(path, "rb")
    except OSError:
        raise
    except Exception as error:  # the stores' own packages raise their own kinds
        raise OSError(f"{type(error).__name__}: {error}") from error
    return file


class Remote:
    """An image at an address."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self._address = name, address

    def read_bytes(self) -> bytes:
        with opened(self._address) as file:
            try:
                return file.read()
            except OSError:
                raise
            except Exception as error:
                raise OSError(f"{type(error).__name__}: {error}") from error
