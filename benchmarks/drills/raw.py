"""HTTP by hand, for what no client library would send."""

import contextlib
import socket
import struct
from collections.abc import Mapping
from typing import BinaryIO
from urllib.parse import urlsplit

_SECONDS = 10.0
_BOUNDARY = "drill"
FORM = f"multipart/form-data; boundary={_BOUNDARY}"
END = f"--{_BOUNDARY}--\r\n".encode()


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname or "", address.port or 80), _SECONDS)


def part(field: str, value: bytes) -> bytes:
    """A field of a multipart body."""
    return b"".join(_part(f'name="{field}"', value))


def file_part(field: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A file of a multipart body; the data are not copied."""
    return _part(f'name="{field}"; filename="a"', data)


def _part(disposition: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    head = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode(), data, b"\r\n"


def form(image: bytes, field: str = "image", copies: int = 1) -> bytes:
    """A multipart body."""
    return b"".join(file_part(field, image)) * copies + END


def head(
    method: str, target: str, length: int = 0, headers: Mapping[str, str] | None = None
) -> bytes:
    """The request line and its headers."""
    fields = {
        "Host": "localhost",
        "Content-Type": FORM,
        "Content-Length": str(length),
        **(headers or {}),
    }
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def status(url: str, request: bytes) -> int:
    """Sends it and reads the status; 0 where the connection is closed without one."""
    try:
        with connect(url) as connection:
            connection.sendall(request)
            line = connection.makefile("rb").readline(200)
    except OSError:
        return 0
    parts = line.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def answer(answers: BinaryIO) -> tuple[int, bytes]:
    """Takes an answer off a connection that is kept: its status and its body."""
    line = answers.readline()
    length = 0
    while header := answers.readline().strip():
        name, _, value = header.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return int(line.split()[1]), answers.read(length)


def reset(connection: socket.socket) -> None:
    """Closes with a reset, as a process does that is killed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
