"""A service that is never silent for long, and never done: the deadline ends the call anyway."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from agiqa_client import DeadlineExceeded
from tests.client.calling import Kind, call

PAUSE = 0.01  # s between two parts, far below the deadline of the calls
ANSWER, IMAGE = 1000, 32 << 20  # bytes: seconds at that pace


class Dripper:
    """Takes one request and drips; ``passed`` counts the bytes until the caller hung up."""

    def __init__(self, *, reads_slowly: bool) -> None:
        self.reads_slowly = reads_slowly
        self.passed = 0
        self.hurry = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        """Serves until the caller hangs up."""
        with contextlib.suppress(OSError), self.listener.accept()[0] as connection:
            connection.recv(65536)
            if not self.reads_slowly:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ANSWER)
            while self.passed < ANSWER or self.reads_slowly:
                part = self._pass(connection)
                if not part:
                    break
                self.passed += part
                self.hurry.wait(PAUSE)

    def _pass(self, connection: socket.socket) -> int:
        return len(connection.recv(65536)) if self.reads_slowly else connection.send(b" ")


@pytest.fixture(params=["answers slowly", "reads slowly"])
def dripper(request: pytest.FixtureRequest) -> Iterator[Dripper]:
    made = Dripper(reads_slowly=request.param == "reads slowly")
    thread = threading.Thread(target=made.run)
    thread.start()
    with made.listener:
        yield made
        made.hurry.set()
        thread.join()
    assert 0 < made.passed < (IMAGE if made.reads_slowly else ANSWER)


def test_the_deadline_ends_a_call_that_drips_on(kind: Kind, dripper: Dripper) -> None:
    image = bytes(IMAGE if dripper.reads_slowly else 1000)
    with pytest.raises(DeadlineExceeded, match="No answer came within"):
        call(kind, lambda c: c.score(image, deadline=0.5), dripper.url)
