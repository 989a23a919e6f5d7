"""The process that decodes: one image at a time, from one shared file into another.

Started by ``model.decoding.decoder`` as ``python -m model.decoding.process``. It trusts what its
parent sends; its parent takes nothing from it but pixels and a short JSON object, since whoever
sent the image may have taken this process over.
"""

import argparse
import contextlib
import json
import mmap
import os
import pickle
import signal
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image

from model.decoding.limits import limited, restrict
from model.decoding.messages import REQUEST, Task
from model.decoding.slots import crops_of
from model.errors import ImageError, UnreadableImage
from model.preprocess import images
from model.preprocess.crops import cut

_STDERR = 2


def main() -> None:
    """Decodes until the pipe closes."""
    parser = argparse.ArgumentParser()
    for name in ("pipe", "inbox", "outbox"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the group; the parent ends us
    restrict()
    Image.init()  # loads the decoders, which then count against no image
    pipe: Connection[Any, Any] = Connection(arguments.pipe)
    process = Process(arguments.inbox, arguments.outbox)
    with contextlib.suppress(EOFError, OSError):  # the other side has closed, or died
        while True:
            sizes = REQUEST.unpack(pipe.recv_bytes())
            pipe.send_bytes(json.dumps(process.answer(*sizes)).encode())


class Process:
    """The two shared files, by their descriptors."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._segment: mmap.mmap | None = None

    def answer(self, task_bytes: int, image_bytes: int) -> dict[str, Any]:
        """What became of an image: ``seconds``, or ``code`` and ``detail`` of an ImageError."""
        task: Task = pickle.loads(os.pread(self._inbox, task_bytes, 0))
        data = os.pread(self._inbox, image_bytes, task_bytes)
        with contextlib.suppress(OSError):  # a terminal, say
            os.ftruncate(_STDERR, 0)  # what libraries had to say about the images before
        out = self._slot(task)
        start = time.perf_counter()
        try:
            with limited(task.cpu_seconds, task.memory):
                cut(images.decode(data), task.layout, out)
        except ImageError as error:
            return {"code": error.code, "detail": str(error)}
        except MemoryError:
            return {
                "code": UnreadableImage.code,
                "detail": "The image takes more memory than its header tells; save it again.",
            }
        return {"seconds": time.perf_counter() - start}

    def _slot(self, task: Task) -> np.ndarray:
        if self._segment is None or len(self._segment) != task.outbox_bytes:
            self._segment = mmap.mmap(self._outbox, task.outbox_bytes)
        return crops_of(self._segment, task.offset, task.stamp, task.layout.array_shape)


if __name__ == "__main__":
    main()
