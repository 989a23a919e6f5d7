"""What label files call scenes and distortions, under the names of MP-IQE (``model.vocabulary``).

LIQE's label files tell 33 distortions apart; its authors group them into the 11 of
``LIQE_DISTORTIONS`` (Zhang et al., CVPR 2023), which have names in MP-IQE.
"""

from collections.abc import Mapping

from model.vocabulary import DISTORTIONS, LIQE_DISTORTIONS, LIQE_SCENES, SCENES

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


def _named(name: str, known: Mapping[str, str], kind: str) -> str:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}")
    return known[name]
