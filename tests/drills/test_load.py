"""The generator against a server that does what it is to do: nothing waits for an answer, and each
request has one end.
"""

import multiprocessing
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks.drills.load import generator, mix
from benchmarks.drills.load.generator import BACK, Sent, Stream, arrivals, generate
from benchmarks.drills.load.mix import Mix, Request

SCORE = b'{"quality": 0.5}'
BUSY = b'{"code": "overloaded"}'
SMALL = Mix("/score", [b"image"])
LARGE = Mix("/score", [bytes(8 << 20)])
NEVER = multiprocessing.get_context("spawn").Event()


def response(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Handler(socketserver.StreamRequestHandler):
    """Reads requests from a connection and hands each to the server's ``behave``."""

    def handle(self) -> None:
        while (length := self.length()) is not None:
            if not self.server.behave(self, length):  # type: ignore[attr-defined]
                return

    def length(self) -> int | None:
        """Of the next request's body; None: the client has closed."""
        found = None
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            if line.lower().startswith(b"content-length"):
                found = int(line.split(b":")[1])
        return found


Behaviour = Callable[[Handler, int], bool]


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    behave: Behaviour


@contextmanager
def serving(behave: Behaviour) -> Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.behave = behave
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def score(handler: Handler, length: int) -> bool:
    handler.rfile.read(length)
    handler.wfile.write(response(200, SCORE))
    return True


def sent_to(behave: Behaviour, stream: Stream, seconds: float = 0.5) -> Sent:
    with serving(behave) as url:
        return generate(NEVER, url, [stream], seconds)


def test_a_request_is_sent_when_it_is_due_whatever_became_of_those_before() -> None:
    count = 20
    together = threading.Barrier(count)

    def wait_for_all(handler: Handler, length: int) -> bool:
        handler.rfile.read(length)
        together.wait(30)
        return score(handler, 0)

    sent = sent_to(wait_for_all, Stream("a", SMALL, rate=200, count=count), seconds=20)
    assert [e.status for e in sent.exchanges] == [200] * count
    assert all(e.due <= e.sent <= e.done for e in sent.exchanges)
    assert all(e.scores == 1 for e in sent.exchanges)


def test_clients_wait_for_their_answers_on_connections_that_are_kept() -> None:
    connections: set[object] = set()

    def count(handler: Handler, length: int) -> bool:
        connections.add(handler)
        return score(handler, length)

    sent = sent_to(count, Stream("a", SMALL, clients=3, count=5), seconds=20)
    assert [e.status for e in sent.exchanges] == [200] * 15
    assert len(connections) <= 3


def test_a_refused_body_is_not_sent_on() -> None:
    seen = threading.Event()

    def refuse(handler: Handler, _: int) -> bool:
        headers = "Retry-After: 7\r\nConnection: close\r\n"
        handler.wfile.write(response(429, BUSY, headers))
        seen.wait(60)  # closed at once the connection would be reset, which overtakes the answer
        return False

    sent = sent_to(refuse, Stream("a", LARGE, rate=50, count=3), seconds=20)
    seen.set()
    assert [(e.status, e.code, e.retry_after) for e in sent.exchanges] == [
        (429, "overloaded", 7)
    ] * 3
    assert all(e.body_sent < 8 << 20 for e in sent.exchanges)


def test_a_whole_body_arrives_in_pieces() -> None:
    sent = sent_to(score, Stream("a", LARGE, rate=50, count=2), seconds=20)
    request = next(LARGE.requests(0))
    assert [e.body_sent for e in sent.exchanges] == [sum(map(len, request.parts[1:]))] * 2


def test_a_kept_connection_that_was_closed_meanwhile_is_no_lost_request() -> None:
    def once(handler: Handler, length: int) -> bool:
        score(handler, length)
        handler.length()  # the next one is read, and the connection closed
        return False

    sent = sent_to(once, Stream("a", SMALL, clients=1, count=2), seconds=20)
    assert [(e.status, e.retries) for e in sent.exchanges] == [(200, 0), (200, 1)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "closed without an answer"),
        (b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n{", "cut off"),
        (b"what?\r\n\r\n", "no HTTP"),
    ],
)
def test_a_request_without_a_whole_answer_has_an_end_too(answer: bytes, code: str) -> None:
    def fail(handler: Handler, length: int) -> bool:
        handler.rfile.read(length)
        handler.wfile.write(answer)
        return False

    sent = sent_to(fail, Stream("a", SMALL, rate=50, count=1), seconds=20)
    assert [(e.status, e.code) for e in sent.exchanges] == [(0, code)]


def test_an_answer_that_never_comes_is_counted_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "GRACE_SECONDS", 0.2)
    done = threading.Event()

    def hang(_: Handler, __: int) -> bool:
        done.wait(60)
        return False

    sent = sent_to(hang, Stream("a", SMALL, rate=200), seconds=0.1)
    done.set()
    assert {(e.status, e.code) for e in sent.exchanges} == {(0, "no answer in time")}


def test_two_answers_to_one_request_are_seen() -> None:
    def twice(handler: Handler, length: int) -> bool:
        handler.rfile.read(length)
        handler.wfile.write(response(200, SCORE) * 2)
        return True

    sent = sent_to(twice, Stream("a", SMALL, rate=50, count=1), seconds=20)
    assert len(sent.exchanges) == 1
    assert sent.unasked == 1


def test_those_that_were_refused_come_back_when_their_time_has_passed() -> None:
    def refuse(handler: Handler, length: int) -> bool:
        handler.rfile.read(length)
        handler.wfile.write(response(429, BUSY, "Retry-After: 1\r\n"))
        return True

    sent = sent_to(refuse, Stream("a", SMALL, rate=50, come_back=4), seconds=0.4)
    back = [e for e in sent.exchanges if e.stream == "a" + BACK]
    refused = [e for e in sent.exchanges if e.stream == "a"]
    assert 1 <= len(back) <= 4
    assert min(e.due for e in back) >= min(e.done for e in refused) + 1


def test_arrivals_are_the_same_for_a_seed_and_as_many_as_the_rate_says() -> None:
    moments = list(arrivals(100, 50, 1))
    assert moments == list(arrivals(100, 50, 1)) != list(arrivals(100, 50, 2))
    assert 4700 < len(moments) < 5300
    assert moments == sorted(moments)
    assert moments[0] > 0
    assert moments[-1] < 50


def body_of(request: Request) -> bytes:
    return b"".join(request.parts)[request.head :]


@pytest.mark.parametrize(
    "sent",
    [SMALL, Mix("/score-agi/batch", [b"a", b"bc"], 3, prompts=True), mix.small()],
    ids=["one", "batch with prompts", "photographs"],
)
def test_a_request_announces_the_length_that_its_body_has(sent: Mix) -> None:
    requests = sent.requests(0)
    for request in (next(requests) for _ in range(3)):
        head = b"".join(request.parts)[: request.head].decode()
        assert f"Content-Length: {len(body_of(request))}\r\n" in head
        assert head.endswith("\r\n\r\n")


def test_prompts_never_repeat() -> None:
    requests = Mix("/score-agi", [b"a"], prompts=True).requests(0)
    assert len({body_of(next(requests)) for _ in range(500)}) == 500
