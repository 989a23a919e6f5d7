"""Traffic, probes and /proc, against a server that says what it is to say."""

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from benchmarks.drills import processes, traffic
from benchmarks.drills.probes import probing

ANSWER = b'{"quality": 0.5}'


class Handler(socketserver.StreamRequestHandler):
    """Answers every request with the same score."""

    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            if line.lower().startswith(b"content-length"):
                length = int(line.split(b":")[1])
        self.rfile.read(length)
        head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n"
        self.wfile.write(f"{head}Content-Length: {len(ANSWER)}\r\n\r\n".encode() + ANSWER)


@pytest.fixture
def url() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_another_image_s_score_is_a_wrong_one(url: str) -> None:
    right = traffic.Subject("/score", b"image", alone=0.5)
    other = traffic.Subject("/score", b"image", alone=0.6)
    with traffic.Traffic(url, [right, other], clients=1, every=0.0) as real:
        burst = traffic.burst(url, [right, other], 4).answers()
        beside = real.result()
    assert traffic.wrong(burst) == 2
    assert {answer.status for answer in [*burst, *beside]} == {200}


def test_what_is_not_served_counts_as_never_in_a_quantile() -> None:
    answers = [traffic.Answer(0.1, 200), traffic.Answer(0.2, 200), traffic.Answer(0.1, 504)]
    assert traffic.quantile(answers, 0.5) == 0.2
    assert traffic.quantile(answers, 0.99) == float("inf")
    assert traffic.statuses([*answers, traffic.Answer(1, 0, "ReadError")]) == (
        "200 x 2, 504 x 1, no answer (ReadError) x 1"
    )


def test_probes_tell_a_server_that_answers_from_one_that_does_not(url: str) -> None:
    with probing(url) as prober:
        probes = prober.result()
    assert probes.failed == 0
    with probing("http://127.0.0.1:9") as prober:
        probes = prober.result()
    assert probes.failed == probes.count


def test_the_tree_of_processes_is_found_measured_and_ended() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        assert processes.wait_for(lambda: len(processes.tree(process.pid)) == 2, 20) is not None
        child = processes.tree(process.pid)[1]
        assert processes.tree_pss(process.pid) > processes.pss(child) > 0
        assert processes.role(child) == "other"
        processes.kill_tree(process.pid)
        assert process.wait(20) == -9
        assert processes.wait_for(lambda: not processes.is_alive(child), 20) is not None


def test_memory_over_the_cap_ends_the_tree() -> None:
    code = "data = b'x' * (200 << 20); input()"
    with (
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process,
        processes.MemoryWatch(process.pid, 100 << 20) as watch,
    ):
        assert process.wait(30) == -9
        assert watch.peak > 100 << 20
    assert watch.capped
    assert processes.is_alive(os.getpid())
