"""Makes a process of the service die of magic input, as a crash in a library of C would, or has the
worker sleep instead of computing.

Python runs it at its start where its folder is on PYTHONPATH. The product knows nothing of it: its
own supervisor, scheduler and quarantine have to cope.
"""

import os
import signal
import sys
import time
from typing import Any

# The file that gets a line per death.
KILLS = "DRILL_KILLS"
DEVICE_MAGIC = (1, 254, 7)
DECODER_MAGIC = b"ends-the-decoder"
# The file that, once it exists, has batches sleep: so the worker's self-test comes before.
SLEEPS = "DRILL_SLEEPS"
BATCH_SECONDS = 0.01
ROW_SECONDS = 0.004
# Sets others: of a batch alone.
SLEEP_SECONDS = "DRILL_SLEEP_SECONDS"


def _die(kills: str) -> None:
    with open(kills, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def _poison_device(kills: str) -> None:
    import numpy as np

    from model.scorer import Scorer

    forward = Scorer.forward
    magic = np.array(DEVICE_MAGIC, np.uint8)[:, None, None]

    def guarded(self: Scorer, crops: Any, *args: Any, **kwargs: Any) -> Any:
        if any((crop == magic).all() for crop in np.asarray(crops)):
            _die(kills)
        return forward(self, crops, *args, **kwargs)

    Scorer.forward = guarded  # type: ignore[method-assign]


def _poison_decoder(kills: str) -> None:
    from model.preprocess import images

    decode = images.decode

    def guarded(data: Any, *args: Any, **kwargs: Any) -> Any:
        if bytes(data).endswith(DECODER_MAGIC):
            _die(kills)
        return decode(data, *args, **kwargs)

    images.decode = guarded


def _sleep_at_the_device(sleeps: str) -> None:
    import numpy as np

    from model.scorer import Scorer

    forward = Scorer.forward
    rows: dict[str, Any] = {}
    constant = os.environ.get(SLEEP_SECONDS)

    def seconds(count: int) -> float:
        return float(constant) if constant else BATCH_SECONDS + ROW_SECONDS * count

    def asleep(self: Scorer, crops: Any, row_crop: Any, row_pass: Any) -> Any:
        if not os.path.exists(sleeps):
            return forward(self, crops, row_crop, row_pass)
        name = self.config.name
        if name not in rows:
            rows[name] = forward(self, crops[:1], [0], row_pass[:1])
        time.sleep(seconds(len(row_crop)))
        return np.repeat(rows[name], len(row_crop), axis=0)

    Scorer.forward = asleep  # type: ignore[method-assign]


def _install() -> None:
    kills, sleeps = os.environ.get(KILLS), os.environ.get(SLEEPS)
    arguments = sys.orig_argv
    if sleeps and "app.worker" in arguments:
        _sleep_at_the_device(sleeps)
    if kills and "app.worker" in arguments:
        _poison_device(kills)
    elif kills and "model.decoding.process" in arguments:
        _poison_decoder(kills)


_install()
