"""All data sets of the papers in miniature, LIQE's labels of them, and a tiny backbone that has
learned nothing, so that no part of any set is closed to a test.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from click.testing import CliRunner, Result

from app.cli.main import main
from model.clip.backbone import WEIGHTS, build
from model.clip.weights import sha256_of
from model.config import Architecture, Provenance
from model.store.checkpoint import write_weights
from tests.training import photograph_sets
from tests.training.generated_sets import write_aigciqa2023
from tests.training.miniature import write_agiqa3k
from tests.training.runs import ARCHITECTURE
from training.data.datasets import DATA_SETS
from training.reports.backbone_card import DESCRIPTION, BackboneDescription

_PHOTOGRAPHS = {
    "LIVE": photograph_sets.write_live,
    "CSIQ": photograph_sets.write_csiq,
    "KADID-10k": photograph_sets.write_kadid10k,
    "BID": photograph_sets.write_bid,
    "LIVE-Challenge": photograph_sets.write_live_challenge_release,
    "KonIQ-10k": photograph_sets.write_koniq10k,
}
_LABELS = (
    ("blur", ("landscape",)),
    ("noise", ("human", "indoor")),
    ("jpeg compression", ("animal",)),
)
_IMAGES = 48
# What every recipe needs to run on pictures of 32 pixels within a second; sections as a whole, so
# that nothing of a paper's schedule is left in it.
SETTINGS: Mapping[str, object] = {
    "crop_policy": "{size: 32, stride: 32, max_side: 64}",
    "schedule": "{epochs: 1, batch: 6, optimiser: adam, warmup_epochs: 0, precision: fp32}",
    "device": "cpu",
}


def write_sets(folder: Path) -> Path:
    """The data folder of ``agiqa reproduce``, each set with a few of its images."""
    for name, write in _PHOTOGRAPHS.items():
        write(folder / name, images=_IMAGES)
        samples = DATA_SETS[name].read(folder / name)
        rows = [
            (os.path.relpath(sample.path, folder), *_LABELS[i % len(_LABELS)])
            for i, sample in enumerate(samples)
        ]
        photograph_sets.write_liqe_labels(folder, name, rows)
    write_agiqa3k(folder / "AGIQA-3K", size=32)
    write_aigciqa2023(folder / "AIGCIQA2023", prompts=8)
    return folder


def write_backbone(folder: Path) -> Path:
    """Random weights as a backbone of ours."""
    torch.manual_seed(0)
    architecture = Architecture.model_validate(ARCHITECTURE)
    folder.mkdir(parents=True)
    write_weights(folder / WEIGHTS, build(architecture).state_dict(), torch.float16)
    described = BackboneDescription(
        name="blank",
        architecture=architecture,
        sha256=sha256_of(folder / WEIGHTS),
        provenance=Provenance(),
    )
    (folder / DESCRIPTION).write_text(described.model_dump_json(exclude_none=True))
    return folder


def reproduce(table: str, data: Path, backbone: Path, out: Path, *options: object) -> Result:
    """The command, on the tiny backbone."""
    torch.set_num_threads(1)
    settings = {"backbone": backbone, **SETTINGS}
    chosen = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    fixed = ["reproduce", table, "--data", str(data), "--out", str(out), *chosen]
    return CliRunner().invoke(main, [*fixed, *map(str, options)])
