"""The sockets that the service listens on, opened before anything is loaded.

So a taken port is told at once, and the address is known even where the system chooses the port.
"""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack

_REASONS = {
    errno.EADDRINUSE: "something else listens there: choose another port (--port, AGIQA_PORT), or "
    "stop it (`agiqa doctor` tells whether it is an agiqa service)",
    errno.EACCES: "ports below 1024 are for the administrator: choose a higher one (--port)",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose 127.0.0.1, or 0.0.0.0 for all "
    "(--host)",
}
# Connections that are taken in a turn of the event loop, where more than that wait.
_DOORS = 8
_EVERYWHERE = {"0.0.0.0", "::", ""}


class ListenError(Exception):
    """The address can't be listened on; the message names the remedy."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, one per address of ``host``; port 0 lets the system choose one for all.

    Raises:
        ListenError: the name is unknown, or the address is taken or not ours.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise ListenError(f"can't listen on {host!r}: {error.strerror}") from error
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, _, _, _, where in dict.fromkeys(found):
            chosen = port or (sockets[0].getsockname()[1] if sockets else 0)
            one = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
            try:
                _bind(one, (where[0], chosen, *where[2:]))
            except OSError as error:
                why = _REASONS.get(error.errno or 0) or error.strerror
                raise ListenError(f"can't listen on {host}:{port}: {why}") from error
            sockets.append(one)
        opened.pop_all()
    return sockets


def doors(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """Each socket several times: uvloop takes one connection of each in a turn of the event loop.

    Where a turn takes long and refused uploads close their connections, one in a turn is too few:
    those who knock wait, a probe among them, though answering it takes no time.
    """
    return [one if i == 0 else one.dup() for one in sockets for i in range(_DOORS)]


def address(host: str, sockets: Sequence[socket.socket]) -> str:
    """The URL that a person on this machine types: http://HOST:PORT."""
    name = "localhost" if host in _EVERYWHERE else host
    return f"http://{f'[{name}]' if ':' in name else name}:{sockets[0].getsockname()[1]}"


def _bind(one: socket.socket, where: tuple[object, ...]) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if one.family == socket.AF_INET6:
        # 0.0.0.0 has a socket of its own.
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.bind(where)
    one.listen(2048)
