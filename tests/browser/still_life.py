"""The example picture of the page: balls on a table, traced ray by ray, so that nobody
has rights in it.

``python -m tests.browser.still_life app/static/assets/still-life.webp`` draws it anew.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]

WIDTH, HEIGHT, RAYS = 768, 512, 3  # rays per pixel and axis
EYE, LOWERED, FOCAL = (0.1, 1.9, -1.1), 0.2, 1.12
TO_SUN = (-0.55, 0.85, -0.45)
SUN = np.array(TO_SUN, np.float32) / np.linalg.norm(TO_SUN).astype(np.float32)
SUNLIGHT = np.array((1.5, 1.38, 1.2), np.float32)
SKYLIGHT = np.array((0.3, 0.36, 0.46), np.float32)
SHADOW_RAYS, BOUNCES = 12, 2
# Direction (x, y), size, colour of the lights in the room; the last is a window behind the eye.
LAMPS = (
    (-0.42, 0.16, 0.07, (0.5, 0.34, 0.16)),
    (-0.3, 0.24, 0.05, (0.4, 0.28, 0.14)),
    (-0.18, 0.12, 0.06, (0.28, 0.2, 0.12)),
    (0.3, 0.2, 0.08, (0.14, 0.22, 0.34)),
    (0.42, 0.1, 0.06, (0.2, 0.26, 0.36)),
    (0.16, 0.26, 0.05, (0.36, 0.3, 0.22)),
    (-0.6, 0.9, 0.3, (2.2, 2.1, 1.9)),
)


@dataclass(frozen=True)
class Ball:
    """A ball on the table; x right, y up, z away from the eye."""

    x: float
    z: float
    radius: float
    colour: tuple[float, float, float]

    @property
    def middle(self) -> Array:
        """[3]."""
        return np.array((self.x, self.radius, self.z), np.float32)

    def distance(self, start: Array, way: Array) -> Array:
        """Along rays [n, 3] to the ball; infinite where they miss it."""
        towards = start - self.middle
        b = np.sum(towards * way, -1)
        inside = b * b - np.sum(towards * towards, -1) + self.radius**2
        reach = -b - np.sqrt(np.maximum(inside, 0))
        return np.where((inside > 0) & (reach > 1e-3), reach, np.inf).astype(np.float32)


BALLS = (
    Ball(-1.55, 5.2, 0.8, (0.86, 0.33, 0.1)),
    Ball(0.1, 6.3, 1.05, (0.78, 0.72, 0.66)),
    Ball(1.75, 5.0, 0.72, (0.12, 0.34, 0.62)),
    Ball(0.62, 3.9, 0.42, (0.9, 0.7, 0.16)),
    Ball(-0.55, 3.7, 0.34, (0.16, 0.5, 0.3)),
)


def still_life() -> Image.Image:
    """The picture, the same on every machine up to rounding."""
    across = (np.arange(WIDTH * RAYS) + 0.5) / RAYS
    down = (np.arange(HEIGHT * RAYS) + 0.5) / RAYS
    rows = []
    for y in down.reshape(-1, 8 * RAYS):
        u, v = np.meshgrid((across - WIDTH / 2) / HEIGHT, 0.5 - y / HEIGHT - LOWERED)
        way = _unit(np.stack([u, v, np.full_like(u, FOCAL)], -1).reshape(-1, 3).astype(np.float32))
        light = trace(np.broadcast_to(np.array(EYE, np.float32), way.shape), way, BOUNCES)
        rows.append(light.reshape(8, RAYS, WIDTH, RAYS, 3).mean((1, 3)))
    shown = np.clip(np.concatenate(rows), 0, 1) ** (1 / 2.2)
    return Image.fromarray(np.round(255 * shown).astype(np.uint8))


def trace(start: Array, way: Array, bounces: int) -> Array:
    """Linear light [n, 3] along rays [n, 3]."""
    reach = np.stack([ball.distance(start, way) for ball in BALLS], -1)
    with np.errstate(divide="ignore"):
        table = -start[:, 1] / way[:, 1]
    table = np.where((way[:, 1] < -1e-6) & (table > 1e-3), table, np.inf)
    nearest = np.minimum(reach.min(-1), table)
    light = room(way)
    hit = np.isfinite(nearest)
    point = start[hit] + nearest[hit, None] * way[hit]
    on_table, ball = table[hit] <= reach[hit].min(-1), reach[hit].argmin(-1)
    normal = _unit(point - np.stack([b.middle for b in BALLS])[ball])
    normal[on_table] = (0, 1, 0)
    colour = np.array([b.colour for b in BALLS], np.float32)[ball]
    speckle = noise(normal[:, 0] * 9 + 40, normal[:, 1] * 9 + normal[:, 2] * 5 + 40)
    colour *= (0.92 + 0.16 * speckle)[:, None]
    colour[on_table] = wood(point[on_table])
    gloss = np.where(on_table, 0.5, 0.9).astype(np.float32)
    light[hit] = shade(point, normal, way[hit], colour, gloss, bounces)
    return light


def shade(
    point: Array, normal: Array, way: Array, colour: Array, gloss: Array, bounces: int
) -> Array:
    """Light [n, 3] that leaves points towards the eye: matt colour, reflection, and glints."""
    sun, sky = lit(point, normal)
    facing = np.maximum(0, -_dot(way, normal))
    mirror = gloss * (0.05 + 0.95 * (1 - facing) ** 5)
    half = _unit(SUN - way)
    glint = 1.6 * gloss * sun * np.maximum(0, _dot(normal, half)) ** 180
    away = way - 2 * _dot(way, normal)[:, None] * normal
    seen = trace(point, away, bounces - 1) if bounces else room(away)
    matt = colour * (sun[:, None] * SUNLIGHT + sky[:, None] * SKYLIGHT)
    return matt * (1 - mirror)[:, None] + seen * mirror[:, None] + glint[:, None]


def lit(point: Array, normal: Array) -> tuple[Array, Array]:
    """How much sun and sky reach points; the sun is a disc, so that shadows are soft."""
    sun = np.zeros(len(point), np.float32)
    for turn in np.linspace(0, 2 * np.pi, SHADOW_RAYS, endpoint=False):
        for part in (0.35, 0.8):
            side = np.array((np.cos(turn + part), 0, np.sin(turn + part)), np.float32)
            shift = 0.08 * part * side
            way = _unit((SUN + shift)[None])
            blocked = [np.isfinite(ball.distance(point, way)) for ball in BALLS]
            sun += ~np.any(blocked, 0) / (2 * SHADOW_RAYS)
    open_sky = np.ones(len(point), np.float32)
    for ball in BALLS:
        towards = ball.middle - point
        far = np.linalg.norm(towards, axis=-1)
        faces = np.maximum(0, _dot(normal, towards / far[:, None]))
        open_sky *= 1 - 0.8 * faces * np.minimum(1, (ball.radius / far) ** 2)
    return sun * np.maximum(0, normal @ SUN), open_sky * (0.55 + 0.45 * normal[:, 1])


def room(way: Array) -> Array:
    """A dim room out of focus, and its lamps as soft discs; [n, 3]."""
    wall = 0.05 + 0.1 * np.maximum(0, 0.4 - np.abs(way[:, 1] - 0.1))
    light = wall[:, None] * np.array((1.15, 1, 0.85), np.float32)
    for x, y, size, colour in LAMPS:
        edge = (size - np.hypot(way[:, 0] - x, way[:, 1] - y)) / 0.012
        light += np.clip(edge, 0, 1)[:, None] * np.array(colour, np.float32)
    return light.astype(np.float32)


def wood(point: Array) -> Array:
    """Colours [n, 3] of planks; grain is noise that is long in one direction."""
    x, z = point[:, 0], point[:, 2]
    plank = np.floor(x / 1.1 + 100)
    grain = sum(noise(f * (7 * x + 31 * plank), f * (0.9 * z + 17 * plank)) / f for f in (1, 2, 4))
    fine = noise(x * 60, z * 5 + plank * 7)
    gap = np.where(np.abs((x / 1.1 + 100) % 1 - 0.5) > 0.49, 0.35, 1)
    tone = (0.55 + 0.34 * grain + 0.12 * fine + 0.15 * noise(plank * 13.7, plank)) * gap
    return (tone[:, None] * np.array((0.36, 0.2, 0.1), np.float32)).astype(np.float32)


def noise(x: Array, y: Array) -> Array:
    """Smooth noise in [0, 1), the same everywhere."""
    i, j = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    u, v = (t * t * (3 - 2 * t) for t in (x - i, y - j))
    low, high = (_mix(_lattice(i, k), _lattice(i + 1, k), u) for k in (j, j + 1))
    return _mix(low, high, v).astype(np.float32)


def _lattice(i: NDArray[np.int64], j: NDArray[np.int64]) -> Array:
    n = (i * 374761393) ^ (j * 668265263)
    n = ((n ^ (n >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((n ^ (n >> 16)) / 2**32).astype(np.float32)


def _mix(a: Array, b: Array, part: Array) -> Array:
    return a + part * (b - a)


def _dot(a: Array, b: Array) -> Array:
    return np.sum(a * b, -1, dtype=np.float32)


def _unit(a: Array) -> Array:
    return (a / np.linalg.norm(a, axis=-1, keepdims=True)).astype(np.float32)


def main(arguments: Sequence[str]) -> None:
    (target,) = arguments
    still_life().save(Path(target), quality=95)


if __name__ == "__main__":
    main(sys.argv[1:])
