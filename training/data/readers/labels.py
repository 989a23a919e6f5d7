"""What label files call scenes and distortions, under the names of MP-IQE
(``model.methods.vocabulary``); and the parts of a split.

LIQE's label files tell 33 distortions apart; its authors group them into the 11 of
``LIQE_DISTORTIONS`` (Zhang et al., CVPR 2023), which have names in MP-IQE.
"""

from collections.abc import Mapping

from model.methods.vocabulary import DISTORTIONS, LIQE_DISTORTIONS, LIQE_SCENES, SCENES

# Fast fading breaks a JPEG2000 stream on its way, so LIQE's authors count it there.
_LIQE_GROUPS = {
    "jpeg2000 compression": ("fastfading",),
    "noise": (
        "white noise",
        "fnoise",
        "white with color",
        "impulse",
        "multiplicative",
        "white noise with denoise",
        "realistic noise",
    ),
    "blur": ("gaussian blur", "lens", "motion", "shifting", "realistic blur"),
    "color": ("diffusion", "oversaturation", "desaturation"),
    "contrast": ("sharpness", "realistic contrast change"),
    "overexposure": ("brighten",),
    "underexposure": ("darken",),
    "spatial": ("jitter", "noneccentricity patch", "pixelate", "color blocking"),
    "quantization": ("color quantization",),
    "other": ("shifting the mean", "other realistic"),
}

_SCENES: Mapping[str, str] = {name: name for name in SCENES} | LIQE_SCENES
_DISTORTIONS: Mapping[str, str] = (
    {name: name for name in DISTORTIONS}
    | LIQE_DISTORTIONS
    | {name: LIQE_DISTORTIONS[group] for group, names in _LIQE_GROUPS.items() for name in names}
)

# What tables and files call the parts of a split, under the names of ``training.splits.groups``.
PART_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}


def scene_named(name: str) -> str:
    """MP-IQE's name of a scene that MP-IQE or LIQE's label files name.

    Raises:
        ValueError: neither knows it.
    """
    return _named(name, _SCENES, "scene")


def distortion_named(name: str) -> str:
    """MP-IQE's name of a distortion that MP-IQE or LIQE's label files name.

    Raises:
        ValueError: neither knows it.
    """
    return _named(name, _DISTORTIONS, "distortion")


def scenes_listed(cell: str) -> tuple[str, ...]:
    """The scenes of a cell, joined by ";"; none of an empty one. Raises as ``scene_named``."""
    return tuple(scene_named(name.strip()) for name in cell.split(";") if name.strip())


def distortion_listed(cell: str) -> str:
    """The distortion of a cell; empty of an empty one. Raises as ``distortion_named``."""
    return distortion_named(cell.strip()) if cell.strip() else ""


def _named(name: str, known: Mapping[str, str], kind: str) -> str:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}")
    return known[name]
