"""Degradations of known kind and strength: what makes any photograph worse, without a rater.

The quality that a model gives must fall with the strength of each. ``strength`` runs from 0 (hardly
visible, or nothing) to 1 (ruined), in steps that look about equal: sigmas, factors and rates grow
geometrically. Everything works at the image's own size, before windows are cut or the whole image
is squashed, with the real codecs.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

Pixels = np.ndarray
Rng = np.random.Generator


@dataclass(frozen=True)
class Degradation:
    """One kind; ``word`` is MP-IQE's name of the distortion. ``apply`` takes uint8 [h, w, 3], a
    strength and a source of chance, and gives the same shape.
    """

    word: str
    apply: Callable[[Pixels, float, Rng], Pixels]


def degrade(pixels: Pixels, kind: str, strength: float, rng: Rng) -> Pixels:
    """``pixels`` uint8 [h, w, 3] made worse.

    Raises:
        KeyError: no such kind.
        ValueError: a strength outside of [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"a strength of {strength} is outside of 0 to 1")
    return DEGRADATIONS[kind].apply(np.ascontiguousarray(pixels), strength, rng)


def _blur(pixels: Pixels, strength: float, _rng: Rng) -> Pixels:
    """Gaussian, sigma 0.4 to 8 pixels."""
    sigma = _between(0.4, 8, strength)
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def _noise(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    """Gaussian, sigma 2 to 60 of 255; of each channel, or of the brightness alone."""
    channels = 3 if rng.random() < 0.7 else 1
    noise = rng.standard_normal((*pixels.shape[:2], channels), dtype=np.float32)
    return _clipped(pixels + _between(2, 60, strength) * noise)


def _jpeg(pixels: Pixels, strength: float, _rng: Rng) -> Pixels:
    """Quality 90 to 4."""
    return _coded(pixels, "JPEG", quality=round(_between(90, 4, strength)))


def _jpeg2000(pixels: Pixels, strength: float, _rng: Rng) -> Pixels:
    """Compression 8 to 300 times."""
    rate = _between(8, 300, strength)
    settings = {"quality_mode": "rates", "quality_layers": [rate]}
    return _coded(pixels, "JPEG2000", irreversible=True, **settings)


def _contrast(pixels: Pixels, strength: float, _rng: Rng) -> Pixels:
    """Down to a tenth, around the image's mean."""
    mean = pixels.mean()
    return _clipped(mean + (pixels - mean) * (1 - 0.9 * strength))


def _darken(pixels: Pixels, strength: float, _rng: Rng) -> Pixels:
    """Down to 8 % of the light."""
    return _clipped(pixels * (1 - 0.92 * strength))


def _brighten(pixels: Pixels, strength: float, _rng: Rng) -> Pixels:
    """Up to three and a half times the light, clipped at white."""
    return _clipped(pixels * (1 + 2.5 * strength) + 30 * strength)


def _pixelate(pixels: Pixels, strength: float, _rng: Rng) -> Pixels:
    """Squares of 1.3 to 16 pixels."""
    image, factor = Image.fromarray(pixels), _between(1.3, 16, strength)
    width, height = (max(1, round(side / factor)) for side in image.size)
    blocks = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(blocks.resize(image.size, Image.Resampling.NEAREST))


def _saturation(pixels: Pixels, strength: float, rng: Rng) -> Pixels:
    """Colours fade to grey, or grow four times as strong."""
    grey = pixels.mean(2, keepdims=True)
    factor = 1 - strength if rng.random() < 0.5 else 1 + 3 * strength
    return _clipped(grey + (pixels - grey) * factor)


def _quantize(pixels: Pixels, strength: float, _rng: Rng) -> Pixels:
    """24 to 2 levels of each channel."""
    steps = round(_between(24, 2, strength)) - 1
    return _clipped(np.round(pixels * (steps / 255)) * (255 / steps))


# KADID-10k counts pixelation among the spatial distortions, hence its word.
DEGRADATIONS: Mapping[str, Degradation] = {
    "blur": Degradation("blur", _blur),
    "noise": Degradation("noise", _noise),
    "jpeg": Degradation("JPEG compression", _jpeg),
    "jpeg2000": Degradation("JPEG2000 compression", _jpeg2000),
    "contrast": Degradation("contrast", _contrast),
    "darkening": Degradation("under-exposure", _darken),
    "brightening": Degradation("over-exposure", _brighten),
    "pixelation": Degradation("spatially-localized", _pixelate),
    "saturation": Degradation("color-related", _saturation),
    "quantization": Degradation("quantization", _quantize),
}


def _between(weakest: float, strongest: float, strength: float) -> float:
    """Geometric steps from ``weakest`` at 0 to ``strongest`` at 1."""
    return float(weakest * (strongest / weakest) ** strength)


def _clipped(values: np.ndarray) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _coded(pixels: Pixels, codec: str, **settings: object) -> Pixels:
    """Through a codec and back."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, codec, **settings)
    return np.asarray(Image.open(buffer).convert("RGB"))
