"""A decoder process from outside: starts it, hands it images one at a time, and replaces it when it
dies, hangs or uses more than it may.

Calls block, so a decoder belongs to a thread; it may be another one for each call.
"""

import contextlib
import itertools
import json
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from model.decoding.messages import REQUEST, Task
from model.decoding.slots import STAMP_BYTES, crops_of, write_stamp
from model.errors import BadAspect, ImageTooLarge, UnreadableImage, UnsupportedImage
from model.preprocess.crops import Layout
from model.preprocess.headers import Header

MAX_MEMORY = 512 * 2**20
CPU_SECONDS, CPU_SECONDS_PER_MEGAPIXEL = 0.5, 0.1

# How often a decoder that is at work is looked at, and after how many looks in a row at which it
# neither ran nor was about to it is taken to be stopped or stuck.
_LOOK_SECONDS = 0.25
_LOOKS_TO_HANG = 8
# Threads of its own do not make one image faster, and take address space. Memory up to 64 MiB is
# kept for the next image, as a process that runs for long comes to do by itself: the system clears
# every page that it gives out anew.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(64 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}
_MOST_REPLY = 1 << 16
# What the inbox keeps of its memory for the next image: to write 8 MiB where it has to be found
# anew takes three times as long and more (benchmarks/seams.py).
_KEPT_OF_INBOX = 16 * 2**20
# For each pixel that is cut: resized by one axis and by both, four bytes in Pillow, and as array.
_BYTES_TO_CUT = 12
# For what the interpreter takes meanwhile.
_SLACK = 16 * 2**20
_ERRORS = {e.code: e for e in (UnreadableImage, UnsupportedImage, ImageTooLarge, BadAspect)}


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What an image may use: processor seconds by its size, and bytes of memory."""

    cpu_seconds: float = CPU_SECONDS
    cpu_seconds_per_megapixel: float = CPU_SECONDS_PER_MEGAPIXEL
    memory: int = MAX_MEMORY

    def seconds(self, header: Header) -> float:
        """Processor seconds for an image with that header."""
        return self.cpu_seconds + self.cpu_seconds_per_megapixel * header.pixels / 1e6


@dataclass(frozen=True, slots=True)
class Decoded:
    """Crops are in their slot; ``seconds`` is what it took."""

    seconds: float


class DecoderDied(UnreadableImage):
    """The process ended under the image; ``reason`` is one of ``DEATHS``."""

    def __init__(self, reason: str) -> None:
        super().__init__("The image can't be decoded; save it as PNG or JPEG.")
        self.reason = reason


_REASONS: dict[int, str] = {
    signal.SIGPROF: "cpu",
    signal.SIGSEGV: "segfault",
    signal.SIGBUS: "segfault",
    signal.SIGABRT: "segfault",
    signal.SIGFPE: "segfault",
    signal.SIGILL: "segfault",
    signal.SIGKILL: "killed",
}

DEATHS = ("cpu", "segfault", "killed", "stopped", "exit")
# What ends a process from outside, without the image's doing: it is tried once more.
_BLAMELESS = {"killed", "stopped"}


class Decoder:
    """One process, started anew when it is gone.

    Args:
        outbox: descriptor of the segment with the slots.
        outbox_bytes: its size.
        limits: of each image.
        on_death: hears why a process has ended under an image, and the last that libraries wrote;
            called in the thread that decodes.
    """

    def __init__(
        self,
        outbox: int,
        outbox_bytes: int,
        limits: DecodeLimits,
        on_death: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._outbox = outbox
        self.outbox_bytes = outbox_bytes
        self._limits = limits
        self._on_death = on_death
        self._inbox = anonymous_file("agiqa-inbox")
        self._stderr = anonymous_file("agiqa-stderr")
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._lock = threading.Lock()  # whoever has it talks to the process
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the process, if there is none; it loads while nobody waits for it.

        Raises:
            OSError: the system has no room for one more.
        """
        with self._lock:
            self._start()

    def decode(
        self,
        data: bytes,
        header: Header,
        layout: Layout,
        *,
        offset: int,
        stamp: int,
    ) -> Decoded:
        """Decodes an image and writes its crops into its slot.

        Args:
            data: the file.
            header: of it.
            layout: the crops, for the header's size.
            offset: of the slot in the outbox.
            stamp: of the slot's owner.

        Raises:
            ImageError: it can't be decoded.
            DecoderDied: the process ended, twice if that was from outside.
            OSError: no process can be started.
        """
        task = Task(
            layout=layout,
            offset=offset,
            stamp=stamp,
            outbox_bytes=self.outbox_bytes,
            cpu_seconds=self._limits.seconds(header),
            memory=min(header.decode_bytes, self._limits.memory) + _memory_to_cut(layout),
        )
        with self._lock:
            self._start()
            try:
                reply = self._ask(pickle.dumps(task), data)
            except DecoderDied as death:
                if death.reason not in _BLAMELESS:
                    raise
                reply = self._ask(pickle.dumps(task), data)
        if "code" in reply:
            raise _ERRORS.get(reply["code"], UnreadableImage)(str(reply["detail"]))
        return Decoded(float(reply["seconds"]))

    def close(self) -> None:
        """Ends the process, and what it is at with it; gives its files back."""
        self._closed = True
        if self._process:
            self._process.kill()
        with self._lock:
            self._bury()
            os.close(self._inbox)
            os.close(self._stderr)

    def _start(self, *, anew: bool = False) -> None:
        if self._closed:
            raise DecoderDied("exit")
        if not anew and self._process and self._process.poll() is None:
            return
        self._bury()
        ours, theirs = socket.socketpair()
        descriptors = {"pipe": theirs.fileno(), "inbox": self._inbox, "outbox": self._outbox}
        flags = [part for name, fd in descriptors.items() for part in (f"--{name}", str(fd))]
        with ours, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "model.decoding.process", *flags],
                pass_fds=tuple(descriptors.values()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=os.environ | _ENVIRONMENT,
            )
            self._pipe = Connection(ours.detach())

    def _bury(self) -> None:
        if self._pipe:
            self._pipe.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._pipe = None
        self._process = None

    def _ask(self, task: bytes, data: bytes) -> dict[str, Any]:
        assert self._pipe
        os.pwrite(self._inbox, task, 0)
        _write_all(self._inbox, data, len(task))
        try:
            # Short enough that a process which does not read can't block it.
            self._pipe.send_bytes(REQUEST.pack(len(task), len(data)))
            self._wait()
            reply = json.loads(self._pipe.recv_bytes(_MOST_REPLY))
        except (OSError, EOFError, ValueError, RecursionError) as error:
            raise self._death() from error
        finally:
            if len(task) + len(data) > _KEPT_OF_INBOX:
                os.ftruncate(self._inbox, 0)  # gives the memory back
        return dict(reply)

    def _wait(self) -> None:
        """Until there is a reply.

        Raises:
            DecoderDied: it was stopped, or is stuck.
        """
        assert self._pipe
        assert self._process
        idle, before = 0, None
        while not self._pipe.poll(_LOOK_SECONDS):
            now = _progress(self._process.pid)
            idle = 0 if now is None or now.runnable or now != before else idle + 1
            before = now
            if idle >= _LOOKS_TO_HANG:
                raise self._death("stopped")

    def _death(self, reason: str | None = None) -> DecoderDied:
        """Sees the process off, has another one ready, and says why the first one ended."""
        assert self._process
        if reason is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_SECONDS)  # it has closed its pipe: it is ending
        status = self._process.poll()
        if reason is None:
            reason = "exit" if status is None or status >= 0 else _REASONS.get(-status, "killed")
        size = os.fstat(self._stderr).st_size
        stderr = os.pread(self._stderr, 2048, max(0, size - 2048)).decode("utf-8", "replace")
        os.ftruncate(self._stderr, 0)
        self._on_death(reason, stderr.strip())
        self._start(anew=True)
        return DecoderDied(reason)


@dataclass(frozen=True, slots=True)
class _Progress:
    runnable: bool
    ticks: int  # of processor time


def _progress(pid: int) -> _Progress | None:
    """Whether a process runs and how far it got; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return _Progress(fields[0] == "R", int(fields[11]) + int(fields[12]))


def anonymous_file(name: str) -> int:
    """Descriptor of a file that has no name in any folder and lies in memory, if it can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _memory_to_cut(layout: Layout) -> int:
    """Bytes for the image at the size that is cut, which may be larger than its own."""
    grid = layout.grid
    return _BYTES_TO_CUT * grid.width * grid.height + _SLACK


class CropDecoder:
    """A decoder with an outbox of its own, for who wants the crops of one image as an array."""

    def __init__(
        self, limits: DecodeLimits, on_death: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self._outbox = anonymous_file("agiqa-outbox")
        self._segment: mmap.mmap | None = None
        self._stamps = itertools.count(1)
        self._decoder = Decoder(self._outbox, 0, limits, on_death)

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._decoder.pid

    def start(self) -> None:
        """As ``Decoder.start``."""
        self._decoder.start()

    def crops(self, data: bytes, header: Header, layout: Layout) -> np.ndarray:
        """uint8 [n, 3, h, w]; as ``Decoder.decode``."""
        segment = self._segment_of(STAMP_BYTES + layout.nbytes)
        stamp = next(self._stamps)
        write_stamp(segment, 0, stamp)
        self._decoder.decode(data, header, layout, offset=0, stamp=stamp)
        return crops_of(segment, 0, stamp, layout.array_shape).copy()

    def close(self) -> None:
        """Ends the process and gives the memory back."""
        self._decoder.close()
        os.close(self._outbox)

    def _segment_of(self, size: int) -> mmap.mmap:
        if self._segment is None or len(self._segment) < size:
            os.ftruncate(self._outbox, size)
            self._segment = mmap.mmap(self._outbox, size)
            self._decoder.outbox_bytes = size
        return self._segment
