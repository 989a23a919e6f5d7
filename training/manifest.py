"""What a run was, in full: recipe, command, seeds, code, packages, machine and data."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from model.store.files import write_atomically
from training.prepared_data import AnyRecipe, PreparedData

MANIFEST = "manifest.json"
_PACKAGES = (
    "agiqa",
    "torch",
    "torchvision",
    "open_clip_torch",
    "accelerate",
    "numpy",
    "pillow",
    "scipy",
)


def write_manifest(folder: Path, recipe: AnyRecipe, prepared: PreparedData, command: str) -> None:
    """Writes ``manifest.json``; the folders of this machine are left out."""
    content = {
        "command": command,
        "recipe": recipe.model_dump(
            mode="json", exclude={"data", "labels", "out", "work", "features", "about", "limits"}
        ),
        "data": {
            name: {part: len(samples) for part, samples in parts.items()}
            for name, parts in prepared.parts.items()
        },
        "data_fingerprint": prepared.fingerprint,
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "device": device_in_words(recipe.device),
        "threads": torch.get_num_threads(),
    }
    write_atomically(folder / MANIFEST, (json.dumps(content, indent=2) + "\n").encode())


def git_revision() -> str:
    """The revision of the checkout that this code runs from, "+" behind it if files were changed;
    "unknown" without git.
    """
    place = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of what the figures hang on."""
    versions: dict[str, Any] = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def device_in_words(device: str) -> str:
    """What a run on ``device`` (auto, cpu, cuda) computes on."""
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()})"
