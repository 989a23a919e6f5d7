"""The image's command in namespaces like a container's, by bubblewrap, where there is no engine."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from .dockerfile import ROOT, instructions, only

AGIQA = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["agiqa"]
HOME = only("WORKDIR", "home").rest


def refusal() -> str | None:
    """Why there is no sandbox on this machine; None: there is."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    done = subprocess.run(
        ["bwrap", "--unshare-all", "--uid", "10001", "--ro-bind", "/", "/", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces are refused here: {done.stderr.strip()}" if done.returncode else None


def environment() -> dict[str, str]:
    """What the last stage of the Dockerfile sets."""
    last = max(i.stage for i in instructions())
    words = [
        w for i in instructions() if i.verb == "ENV" and i.stage == last for w in i.rest.split()
    ]
    return dict(word.split("=", 1) for word in words)


def command() -> list[str]:
    """ENTRYPOINT and CMD; the entry point's script is this environment's."""
    entry, arguments = json.loads(only("ENTRYPOINT").rest), json.loads(only("CMD", "serve").rest)
    assert entry == ["agiqa"]
    return [sys.executable, "-m", "app.cli.main", *arguments]


def _mounts() -> list[str]:
    """A read-only root; memory where compose has tmpfs, a volume or shared memory."""
    temporary, _, options = AGIQA["tmpfs"][0].partition(":")
    sizes = dict(option.partition("=")[::2] for option in options.split(","))
    assert AGIQA["read_only"]
    return [
        *("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
        *("--size", str(_bytes(AGIQA["shm_size"])), "--tmpfs", "/dev/shm"),
        *("--size", str(_bytes(sizes["size"])), "--tmpfs", temporary),
        *("--tmpfs", "/home", "--dir", HOME, "--tmpfs", f"{HOME}/.cache"),
        *("--remount-ro", "/home"),
        # Where the checkout or Python lie under one of these.
        *(word for place in _places() for word in ("--ro-bind", place, place)),
    ]


def _places() -> list[str]:
    places = {str(ROOT), sys.prefix, sys.base_prefix}
    return sorted(place for place in places if place.startswith(("/tmp/", "/home/")))


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"m": 2**20, "g": 2**30}[size[-1]]


def _limit() -> None:
    files = AGIQA["ulimits"]["nofile"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def sandboxed(log: Path, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The image's command, first process of its own namespaces but for the network, with the
    limits of compose; its lines go to the log.
    """
    uid, gid = AGIQA["user"].split(":")
    variables = {"HOME": HOME, "PYTHONPATH": str(ROOT)} | environment() | settings
    arguments = [
        *("bwrap", "--unshare-all", "--share-net", "--die-with-parent", "--as-pid-1"),
        *("--uid", uid, "--gid", gid, "--cap-drop", "ALL", *_mounts(), "--chdir", HOME),
        "--clearenv",
        *(word for name, value in variables.items() for word in ("--setenv", name, value)),
        *command(),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, preexec_fn=_limit)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    """The processes that it has started."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words]


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    return [pid, *(below for child in children(pid) for below in tree(child))]


def tasks(pid: int) -> int:
    """Threads of the process and all below it, as a limit of pids counts them."""
    return sum(len(os.listdir(f"/proc/{one}/task")) for one in tree(pid))
