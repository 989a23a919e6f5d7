"""Clients hear the refusal of an upload that the service does not read, over a real connection."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agiqa_client import Client, Overloaded
from tests.app.server import Running, serving

MIB = 2**20
LIMITS = {
    "AGIQA_MAX_IMAGE_MIB": "16",
    "AGIQA_MAX_BODY_MIB": "16",
    "AGIQA_MAX_BODIES_MIB": "16",
    "AGIQA_BODY_SECONDS": "600",
}
STALLED = (
    b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n" % (12 * MIB)
)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that holds nearly all uploads that it may."""
    with serving(tmp_path_factory.mktemp("full"), LIMITS) as running:
        port = httpx.URL(running.url).port or 0
        with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as stalled:
            stalled.sendall(STALLED)
            running.wait_until(lambda: running.metric("agiqa_body_bytes_in_flight") == 12 * MIB)
            yield running


def test_our_client_hears_when_to_come_back(full: Running) -> None:
    with Client(full.url, retries=0) as client:
        for _ in range(3):
            with pytest.raises(Overloaded) as refusal:
                client.score(b"x" * 8 * MIB)
            assert refusal.value.retry_after is not None


def test_a_client_that_looks_at_nothing_before_all_is_sent_hears_it_too(full: Running) -> None:
    head = STALLED.replace(b"%d" % (12 * MIB), b"%d" % (8 * MIB))
    port = httpx.URL(full.url).port or 0
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head + b"x" * 8 * MIB)
        assert connection.recv(64).startswith(b"HTTP/1.1 429 ")


def test_a_small_image_is_served_meanwhile_and_probes_are(full: Running) -> None:
    files = {"image": ("a.jpg", b"no image", "image/jpeg")}
    assert full.client.post("/score", files=files).status_code == 415
    assert full.client.get("/livez").status_code == 200


def test_a_trickling_upload_is_given_up_by_the_running_service(tmp_path: Path) -> None:
    with serving(tmp_path, {"AGIQA_BODY_SECONDS": "0.3", "AGIQA_HEADER_SECONDS": "0.3"}) as running:
        port = httpx.URL(running.url).port or 0
        for sent, status in ((STALLED, b"408"), (STALLED[:30], b"408"), (b"\r\n", b"")):
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                connection.sendall(sent)
                answer = connection.makefile("rb").read()
            assert answer[9:12] == status
        assert running.metric("agiqa_connections_closed_total", limit="slow_headers") >= 2
        assert running.metric("agiqa_body_bytes_in_flight") == 0
