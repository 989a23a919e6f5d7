"""The sockets, and what people read at the start."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.catalogue import Models
from app.device.messages import LoadedModel
from app.startup.banner import banner
from app.startup.sockets import ListenError, address, doors, listen
from model.config import CheckpointConfig
from model.store.checkpoint import find, read_config
from tests.app.server import serving


def loaded(*configs: CheckpointConfig) -> Models:
    return Models([LoadedModel(c, c.crop_policy, "cpu", "float32") for c in configs])


def closing(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def test_the_system_chooses_one_port_for_all_addresses_of_a_name() -> None:
    sockets = listen("localhost", 0)
    ports = {one.getsockname()[1] for one in sockets}
    assert len(ports) == 1
    assert address("localhost", sockets) == f"http://localhost:{ports.pop()}"
    closing(sockets)


def test_each_socket_is_there_several_times_and_all_take_connections() -> None:
    sockets = listen("127.0.0.1", 0)
    copies = doors(sockets)
    assert copies[0] is sockets[0]
    assert len(copies) > 1
    for one in copies:
        with socket.create_connection(one.getsockname()):
            taken, _ = one.accept()
            taken.close()
    closing(copies)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_service_for_everyone_is_shown_under_a_name_that_can_be_typed(host: str) -> None:
    try:
        sockets = listen(host, 0)
    except ListenError as error:
        pytest.skip(f"this machine has no such address family: {error}")
    assert address(host, sockets).startswith("http://localhost:")
    closing(sockets)


def test_a_taken_port_is_told_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}: something else .*--port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "words"), [("203.0.113.7", "no such address"), ("no such host", "can't listen on")]
)
def test_an_address_that_is_not_ours_is_told(host: str, words: str) -> None:
    with pytest.raises(ListenError, match=words):
        listen(host, 8000)


def test_serve_ends_at_once_where_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = [sys.executable, "-m", "app.cli.main", "serve", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "something else listens there" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_greeting_says_what_is_loaded_where_it_is_and_what_to_do_next() -> None:
    photo, generated = (read_config(find(name)) for name in ("tiny-mpiqe", "tiny-clip-agiqa"))
    other = photo.model_copy(update={"name": "other"})
    text = banner("1.2.3", "http://localhost:8000", loaded(photo, generated, other))
    assert "agiqa 1.2.3 is ready on cpu in float32" in text
    assert re.search(r"tiny-mpiqe \(mp-iqe, .*\), /score, SRCC of quality 0\.", text)
    assert re.search(r"tiny-clip-agiqa \(clip-agiqa, .*\), /score-agi, SRCC", text)
    assert "?model=other" in text
    assert "/score and /score-agi" in banner("1.2.3", "http://localhost:8000", loaded(photo))
    assert "http://localhost:8000/\n" in text
    assert "curl -F image=@photo.jpg http://localhost:8000/score" in text


@pytest.mark.integration
def test_on_a_terminal_the_service_greets_in_words(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "app.cli.main",
        "serve",
        "--port",
        "0",
        "--model",
        "tiny-mpiqe",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AGIQA_")}
    said = ""
    with subprocess.Popen(command, stderr=theirs, env=environment) as process:
        os.close(theirs)
        while "stop  " not in said:
            said += os.read(ours, 4096).decode()
        (page,) = re.findall(r"page +(http://\S+)", said)
        status = httpx.get(page, follow_redirects=True).status_code
        process.send_signal(signal.SIGINT)
        os.close(ours)
    assert status == 200
    assert "is ready on" in said
    assert process.returncode == 0


@pytest.mark.integration
def test_the_port_that_the_system_chose_is_in_the_log(tmp_path: Path) -> None:
    with serving(tmp_path, {"AGIQA_LOG_FORMAT": "auto"}) as running:
        assert f"the page is at {running.url}/" in running.log.read_text()
