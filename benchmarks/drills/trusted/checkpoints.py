"""Broken, swapped and malicious checkpoint files: none becomes ready, and nothing in them is
executed.
"""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.processes import wait_for
from benchmarks.drills.service import service
from model.store.checkpoint import BUNDLED

_NAME = "tiny-clip-agiqa"
_OTHER = "tiny-mpiqe"
_CONFIG = "config.json"
_PARAMETERS = "model.safetensors"
_BACKBONE = "../tiny-backbone/backbone.safetensors"
_START_SECONDS = 45.0
_IN_SHORT = frozenset({"cut in half", "with NaN", "pickled with code"})
_UNSEALED = frozenset({"with NaN", "with infinity", "pickled with code", "as torch's archive"})
_SEALS = ("sha256", "self_test")


@dataclass(frozen=True)
class _Damage:
    """What is done to a file of a copy of a bundled checkpoint.

    ``unsealed``: without the digests and the self-test, so that they are not what refuses it.
    """

    name: str
    file: str
    do: Callable[[Path], object]
    unsealed: bool = False
    in_short: bool = False


def run(report: Report) -> None:
    good = _outcome(report.folder / "good", None)
    report.check("a whole checkpoint becomes ready", good.figure, good.ready)
    marker = report.folder / "executed"
    for damage in _damages(marker):
        if damage.in_short or not report.short:
            outcome = _outcome(report.folder / damage.name.replace(" ", "-"), damage)
            holds = not outcome.ready and outcome.exit_status == 1
            report.check(f"{damage.name}: never ready", outcome.figure, holds)
    report.check("nothing is executed", f"marker there: {marker.exists()}", not marker.exists())


@dataclass(frozen=True)
class _Outcome:
    ready: bool
    exit_status: int | None
    last: str

    @property
    def figure(self) -> str:
        end = "ready" if self.ready else f"exit status {self.exit_status}"
        return f"{end}; {self.last}"


def _outcome(folder: Path, damage: _Damage | None) -> _Outcome:
    """What becomes of a service on a checkpoint that something was done to."""
    store = folder / "checkpoints"
    shutil.copytree(BUNDLED, store)
    if damage is not None:
        damage.do((store / _NAME / damage.file).resolve())
        if damage.unsealed:
            _unseal(store / _NAME / _CONFIG)
    environment = {"AGIQA_MODELS": str(store / _NAME), "AGIQA_LOG_FORMAT": "json"}
    with service(folder / "service", environment, wait=False) as running:
        process = running.running.process
        wait_for(lambda: process.poll() is not None or running.is_ready(), _START_SECONDS, 0.1)
        ready = process.poll() is None and running.is_ready()
        return _Outcome(ready, process.poll(), _last_error(running.log))


def _last_error(log: Path) -> str:
    """The reason that the operator reads."""
    lines = log.read_text(errors="replace").splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    errors = [e["message"] for e in entries if e.get("level") in {"error", "critical"}]
    return f"...{' '.join(errors[-1].split())[-110:]}" if errors else "no error in the log"


def _damages(marker: Path) -> list[_Damage]:
    damages = [
        _Damage("swapped with another model's", _PARAMETERS, _swap),
        _Damage("configuration cut off", _CONFIG, _cut_in_half),
        _Damage("configuration that is a pickle", _CONFIG, lambda path: _pickle(path, marker)),
        _Damage("parameters missing", _PARAMETERS, Path.unlink),
        _Damage("header of an exabyte", _PARAMETERS, _huge_header),
        _Damage("two tensors exchanged", _BACKBONE, _exchange_tensors, in_short=True),
    ]
    for name, file in (("parameters", _PARAMETERS), ("backbone", _BACKBONE)):
        kinds: list[tuple[str, Callable[[Path], object]]] = [
            ("cut in half", _cut_in_half),
            ("one byte short", lambda path: path.write_bytes(path.read_bytes()[:-1])),
            ("empty", lambda path: path.write_bytes(b"")),
            ("with a bit flipped", _flip),
            ("with NaN", lambda path: _set(path, torch.nan)),
            ("with infinity", lambda path: _set(path, torch.inf)),
            ("pickled with code", lambda path: _pickle(path, marker)),
            ("as torch's archive", lambda path: _archive(path, marker)),
        ]
        for kind, do in kinds:
            unsealed = kind in _UNSEALED
            in_short = file == _PARAMETERS and kind in _IN_SHORT
            damages.append(_Damage(f"{name} {kind}", file, do, unsealed, in_short))
    return damages


def _cut_in_half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _swap(path: Path) -> None:
    shutil.copyfile(path.parents[1] / _OTHER / path.name, path)


def _exchange_tensors(path: Path) -> None:
    """Two of the same shape and dtype, so that the file stays valid."""
    tensors = load_file(path)
    seen: dict[tuple[torch.Size, torch.dtype], str] = {}
    for name, tensor in tensors.items():
        other = seen.setdefault((tensor.shape, tensor.dtype), name)
        if other != name and tensor.ndim == 2 and not torch.equal(tensor, tensors[other]):
            tensors[name], tensors[other] = tensors[other], tensor
            break
    else:
        raise ValueError("no two tensors are alike")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 + 1] ^= 0x40
    path.write_bytes(data)


def _set(path: Path, value: float) -> None:
    """One number of a tensor."""
    tensors = load_file(path)
    largest = max(tensors, key=lambda name: tensors[name].ndim)
    tensors[largest].view(-1)[0] = value
    save_file(tensors, path)


def _unseal(path: Path) -> None:
    config = json.loads(path.read_text())
    for section in (config, config.get("backbone", {})):
        for key in _SEALS:
            section.pop(key, None)
    path.write_text(json.dumps(config))


class _Code:
    """Unpickled, it leaves a mark."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self._marker,))


def _pickle(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": _Code(marker)}))


def _archive(path: Path, marker: Path) -> None:
    torch.save({"weight": torch.zeros(3), "more": _Code(marker)}, path)


def _huge_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])


DRILL = Drill("checkpoints", run, seconds=240, short_seconds=75)
