"""Whether this installation will serve: each check says what it found, and what to do about it.

Nothing is changed: ports and shared memory are taken for a moment and given back.
"""

import importlib.metadata
import json
import platform
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import features

from app.device.arena import Arena, ArenaError
from app.key_file import read_keys
from app.settings import Settings, SettingsError
from app.startup.sockets import ListenError, listen
from model.resources import usable_cores

if TYPE_CHECKING:
    from model.diagnosis import Torch

Verdict = Literal["ok", "warning", "fault"]
_PILLOW = "install Pillow's wheel: pip install -U pillow"
_REINSTALL = "install torch and torchvision again, both from one index: make clean, then make serve"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    ``remedy`` says what to do, and is empty where all is well. A warning is something that the
    service can run without.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, one by one as they are made: loading the models takes seconds."""
    yield _versions()
    first, *others = dict.fromkeys(settings.worker_devices)
    facts = _torch_facts(first, settings)
    if isinstance(facts, Finding):
        yield facts
    else:
        yield _torch(facts)
        yield _device(first, facts, settings)
        for name in others:
            yield _other_device(name, settings)
        yield _open_clip()
        for model in settings.models:
            yield _checkpoint(model, first, settings)
    yield _decoders()
    yield _colours()
    yield _shared_memory(settings)
    yield _port(settings)
    if settings.keys_file:
        yield _keys(settings.keys_file)
    yield _extras()


def _versions() -> Finding:
    own, python = importlib.metadata.version("agiqa"), platform.python_version()
    found = f"{own} on Python {python}, {platform.system()} {platform.machine()}"
    return Finding("agiqa", "ok", found)


def _torch_facts(device: str, settings: Settings) -> "Torch | Finding":
    from model.diagnosis import torch_facts

    try:
        return torch_facts(device, settings.dtype)
    except ImportError as error:
        return Finding("torch", "fault", f"can't be imported: {error}", _REINSTALL)
    except (RuntimeError, ValueError, AssertionError) as error:
        first = str(error).splitlines()[0]
        remedy = "set AGIQA_DEVICE (auto, cpu, cuda) and AGIQA_DTYPE (auto, float32, bfloat16)"
        return Finding("torch", "fault", f"can't use {device}: {first}", remedy)


def _other_device(name: str, settings: Settings) -> Finding:
    facts = _torch_facts(name, settings)
    if isinstance(facts, Finding):
        return replace(facts, check=f"device {name}")
    return _device(name, facts, settings)


def _torch(facts: "Torch") -> Finding:
    built = f"built for CUDA {facts.cuda}" if facts.cuda else "built for the CPU"
    return Finding("torch", "ok", f"{facts.version}, {built}")


def _device(name: str, facts: "Torch", settings: Settings) -> Finding:
    workers = settings.worker_devices.count(name)
    several = f", {workers} workers" if workers > 1 else ""
    if not several and facts.device_bytes is None and settings.most_workers(usable_cores()) > 1:
        several = ", as many workers as are measured after the start to be best"
    if facts.device_bytes is not None:
        gib = facts.device_bytes / 2**30
        found = f"{facts.device} ({facts.device_name}, {gib:.0f} GiB) in {facts.dtype}{several}"
        return Finding("device", "ok", found)
    cores = usable_cores()
    threads = settings.worker_threads(cores) or min(facts.threads, cores)
    each = " each" if workers > 1 else " together" if several else ""
    found = f"{facts.device} in {facts.dtype}{several}, {threads} threads{each} on {cores} usable"
    found += " cores"
    if settings.device == "auto" and shutil.which("nvidia-smi"):
        remedy = "to use the GPU: look at nvidia-smi, and whether torch is built for CUDA"
        return Finding("device", "warning", f"{found}, although nvidia-smi is here", remedy)
    if threads * workers > cores:
        remedy = f"set AGIQA_THREADS={max(1, cores // workers)}"
        if workers > cores:
            remedy += f" and AGIQA_WORKERS={cores}"
        return Finding("device", "warning", found, remedy)
    return Finding("device", "ok", found)


def _open_clip() -> Finding:
    from model.diagnosis import import_open_clip

    try:
        return Finding("open_clip", "ok", import_open_clip())
    except ImportError as error:
        remedy = f"{_REINSTALL}. The bundled models do without it; CLIP's own architectures need it"
        return Finding("open_clip", "warning", f"can't be imported: {error}", remedy)


def _checkpoint(model: str, device: str, settings: Settings) -> Finding:
    from model.diagnosis import try_checkpoint
    from model.errors import ModelError

    check = f"checkpoint {model}"
    try:
        trial = try_checkpoint(model, device, settings.dtype)
    except (ModelError, OSError, RuntimeError, ValueError, ArithmeticError) as error:
        remedy = "look at the name or the folder; `agiqa models` lists what is bundled"
        return Finding(check, "fault", str(error).splitlines()[0], remedy)
    heads = ", ".join(trial.heads)
    times = f"loaded in {trial.seconds_to_load:.1f} s, a picture in {trial.seconds_to_score:.2f} s"
    found = f"revision {trial.revision}; {heads}; {times}"
    if not trial.is_sealed:
        remedy = "nothing shows whether its files are whole: seal it with agiqa seal DIR"
        return Finding(check, "warning", f"{found}; not sealed", remedy)
    return Finding(check, "ok", f"{found}; sealed")


def _decoders() -> Finding:
    from model.diagnosis import FORMATS, undecodable

    faults = undecodable()
    good = ", ".join(name for name in FORMATS if name not in faults)
    if not faults:
        return Finding("decoders", "ok", good)
    found = "; ".join([good, *(f"not {name} ({why})" for name, why in faults.items())])
    # Builds of Pillow without AVIF are common, and the service says 415 then.
    verdict: Verdict = "warning" if set(faults) <= {"AVIF"} else "fault"
    return Finding("decoders", verdict, found, _PILLOW)


def _colours() -> Finding:
    if features.check_module("littlecms2"):
        return Finding("colour profiles", "ok", "applied by LittleCMS")
    return Finding("colour profiles", "fault", "Pillow was built without LittleCMS", _PILLOW)


def _shared_memory(settings: Settings) -> Finding:
    try:
        Arena(settings.arena_bytes).close()
    except ArenaError as error:
        found, _, remedy = str(error).partition(": ")
        return Finding("shared memory", "fault", found, remedy)
    return Finding("shared memory", "ok", f"{settings.max_crop_mib:g} MiB for crops can be had")


def _port(settings: Settings) -> Finding:
    check = f"port {settings.port}"
    try:
        for one in listen(settings.host, settings.port):
            one.close()
    except ListenError as error:
        found, _, remedy = str(error).partition(": ")
        if running := _who_answers(settings):
            remedy = "stop it, or choose another port (--port, AGIQA_PORT)"
            return Finding(check, "warning", f"{running} answers there", remedy)
        return Finding(check, "fault", found, remedy)
    return Finding(check, "ok", f"free on {settings.host}")


def _keys(file: Path) -> Finding:
    try:
        keys = read_keys(file)
    except SettingsError as error:
        remedy = "mend the file; `agiqa key NAME` makes a key and its lines"
        return Finding("keys", "fault", " ".join(str(error).split()), remedy)
    return Finding("keys", "ok", f"{len(keys)} in {file}")


def _who_answers(settings: Settings) -> str | None:
    """Name and version, if what listens is an agiqa service."""
    name = "127.0.0.1" if settings.host in {"0.0.0.0", "::", ""} else settings.host
    url = f"http://{f'[{name}]' if ':' in name else name}:{settings.port}/openapi.json"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as answer:
            about: dict[str, Any] = json.load(answer)["info"]
        return f"agiqa {about['version']}" if about["title"] == "agiqa" else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _extras() -> Finding:
    try:
        for package in ("accelerate", "matplotlib", "scikit-learn"):
            importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        remedy = "to train: pip install -e '.[train]' -c constraints.txt"
        return Finding("training", "ok", "not installed, and not needed to serve", remedy)
    return Finding("training", "ok", "installed")
