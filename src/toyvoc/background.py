"""Backgrounds for ToyVOC: cluttered landscapes, rooms and textures, which resemble no class."""

import cv2
import numpy as np

from toyvoc.silhouettes.pen import Paint, Pen, hsv, tint

SETTINGS = ("outdoor", "indoor", "texture")
_GROUNDS = ("grain", "blotch", "fur", "hair", "cloud", "leaf", "water", "speckle", "plank", "wood")
_WALLS = (
    "shade", "grain", "blotch", "brick", "stripe", "pinstripe", "band", "dots", "weave", "plank", "check",
    "cloud",
)  # fmt: skip
_SURFACES = (
    *_WALLS,
    "fur", "hair", "wool", "leaf", "water", "wood", "tabby", "speckle", "plaid", "diagonal", "patch",
)  # fmt: skip
_FLOORS = ("plank", "wood", "check", "grain", "weave", "blotch", "diagonal")


def _muted(rng: np.random.Generator) -> np.ndarray:
    return hsv(rng.random(), rng.uniform(0.03, 0.55), rng.uniform(0.25, 0.92))


def _surface(
    rng: np.random.Generator, tiles: tuple[str, ...], contrast: float, colour: np.ndarray | None = None
) -> Paint:
    colour = _muted(rng) if colour is None else colour
    other = tint(colour, 1 + contrast * rng.uniform(-1, 1))
    if rng.random() < 0.35:
        other = (1 - contrast) * other + contrast * _muted(rng)
    return Paint(colour, other, str(rng.choice(tiles)))


def _clutter(pen: Pen, width: int, height: int, low: float, count: int) -> None:
    """Blobs, polygons, posts, lines and small piles of shapes, with centres below ``low`` (0 is the top)."""
    rng, size = pen.rng, min(width, height)
    for _ in range(count):
        x, y = rng.uniform(0, width), height * rng.uniform(low, 1.0)
        r = size * rng.uniform(0.04, 0.24)
        paint = _surface(rng, _SURFACES, 0.6)
        kind = rng.integers(7)
        if kind <= 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 9))))
            radii = r * rng.uniform(0.5, 1.2, len(angles))
            shape = np.stack(
                [x + radii * np.cos(angles), y + radii * np.sin(angles) * rng.uniform(0.4, 1)], axis=1
            )
            (pen.blob if kind else pen.poly)(shape, paint)
        elif kind == 2:
            a = rng.uniform(0, np.pi)
            d = np.array([np.cos(a), np.sin(a)]) * size * rng.uniform(0.3, 1.0)
            pen.line([(x - d[0], y - d[1]), (x + d[0], y + d[1])], rng.uniform(1, 5), paint.colour)
        elif kind == 3:
            w, h = r * rng.uniform(0.2, 1.4), r * rng.uniform(0.5, 1.8)
            pen.rect(x - w, y - h, x + w, y + h, paint)
        elif kind == 4:
            steps = rng.normal(0, r, (5, 2)) * (1.0, 0.6)
            pen.curve(np.add((x, y), np.cumsum(steps, axis=0)), rng.uniform(1, 5), paint.colour)
        elif kind == 5:
            ring = rng.uniform(-1, 1, (int(rng.integers(3, 7)), 2)) * r
            pen.puffs(np.add(ring, (x, y)), rng.uniform(0.25, 0.6, len(ring)) * r, paint)
        else:
            for _ in range(int(rng.integers(2, 5))):
                dx, dy = rng.normal(0, r * 0.6, 2)
                part = _surface(rng, _SURFACES, 0.6)
                if rng.random() < 0.5:
                    pen.ellipse(x + dx, y + dy, r * rng.uniform(0.2, 0.7), r * rng.uniform(0.15, 0.6), part,
                                angle=rng.uniform(0, 180))  # fmt: skip
                else:
                    triangle = np.add(rng.normal(0, r * 0.7, (3, 2)), (x + dx, y + dy))
                    pen.poly(triangle, part)


def _outdoor(pen: Pen, width: int, height: int) -> None:
    rng = pen.rng
    horizon = height * rng.uniform(0.25, 0.75)
    sky = (
        hsv(rng.normal(0.58, 0.06), rng.uniform(0.05, 0.6), rng.uniform(0.55, 0.98))
        if rng.random() < 0.75
        else _muted(rng)
    )
    tile = "shade" if rng.random() < 0.5 else "cloud"
    pen.rect(0, 0, width, horizon + 2, Paint(sky, tint(sky, rng.uniform(1.1, 1.8)), tile))
    for _ in range(int(rng.integers(0, 4))):  # hills and far walls
        x = np.linspace(-10, width + 10, int(rng.integers(3, 8)))
        ridge = horizon - rng.uniform(0, 0.25, len(x)) * height
        outline = [*zip(x, ridge), (width + 10, horizon + 3), (-10, horizon + 3)]
        (pen.poly if rng.random() < 0.5 else pen.blob)(outline, _surface(rng, _GROUNDS, 0.5))
    ground = (
        hsv(rng.uniform(0.05, 0.4), rng.uniform(0.08, 0.6), rng.uniform(0.25, 0.85))
        if rng.random() < 0.7
        else _muted(rng)
    )
    pen.rect(0, horizon, width, height, _surface(rng, _GROUNDS, 0.6, ground))
    if rng.random() < 0.4:  # a path
        x, bottom = rng.uniform(0.2, 0.8) * width, rng.uniform(-0.2, 0.9) * width
        wide = width * rng.uniform(0.2, 0.6)
        pen.poly(
            [(x - 4, horizon), (x + 4, horizon), (bottom + wide, height), (bottom, height)],
            _surface(rng, _GROUNDS, 0.4),
        )
    _clutter(pen, width, height, rng.uniform(0.1, 0.5), int(rng.integers(1, 9)))


def _indoor(pen: Pen, width: int, height: int) -> None:
    rng = pen.rng
    floor = height * rng.uniform(0.55, 0.9)
    pen.rect(0, 0, width, floor + 1, _surface(rng, _WALLS, 0.4))
    if rng.random() < 0.4:  # a corner of the room, or a curtain
        x = width * rng.uniform(0.1, 0.9)
        pen.poly(
            [(x, 0), (width, 0), (width, floor + rng.uniform(0, 0.2) * height), (x, floor)],
            _surface(rng, _WALLS, 0.5),
        )
    for _ in range(int(rng.integers(0, 3))):  # shelves and beams
        y = floor * rng.uniform(0.1, 0.9)
        x0, x1 = np.sort(rng.uniform(-0.2, 1.2, 2)) * width
        pen.rect(x0, y, x1, y + rng.uniform(2, 7), _surface(rng, ("wood", "shade", "grain"), 0.4))
    pen.rect(0, floor, width, height, _surface(rng, _FLOORS, 0.5))
    if rng.random() < 0.6:
        pen.rect(0, floor - rng.uniform(2, 6), width, floor + 1, _muted(rng))
    if rng.random() < 0.4:
        rx, ry = width * rng.uniform(0.3, 0.6), max(height - floor, 4) * rng.uniform(0.3, 0.7)
        pen.ellipse(width * rng.uniform(0.2, 0.8), height * 0.97, rx, ry, _surface(rng, _SURFACES, 0.6))
    _clutter(pen, width, height, 0.0, int(rng.integers(1, 8)))


def _texture(pen: Pen, width: int, height: int) -> None:
    rng = pen.rng
    pen.rect(0, 0, width, height, _surface(rng, _SURFACES, 0.5))
    for _ in range(int(rng.integers(0, 3))):
        a, b = rng.uniform(-0.2, 1.2, 2) * width
        side = width if rng.random() < 0.5 else 0
        pen.poly([(a, 0), (side, 0), (side, height), (b, height)], _surface(rng, _SURFACES, 0.5))
    _clutter(pen, width, height, 0.0, int(rng.integers(3, 13)))


def draw_background(rng: np.random.Generator, width: int, height: int, setting: str) -> np.ndarray:
    """A background of one of ``SETTINGS``: (height, width, 3) uint8 RGB."""
    canvas = np.full((height, width, 4), 255, np.uint8)
    pen = Pen(rng)
    {"outdoor": _outdoor, "indoor": _indoor, "texture": _texture}[setting](pen, width, height)
    pen.draw_on(canvas)
    blur = rng.uniform(0.0, 1.3)
    return cv2.GaussianBlur(canvas, (0, 0), blur)[..., :3] if blur > 0.3 else canvas[..., :3]
