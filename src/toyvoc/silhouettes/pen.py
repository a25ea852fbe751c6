"""A small vector pen: parts are collected in a unit frame, posed as one body, and rasterised as a sprite."""

import colorsys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np

from toyvoc.silhouettes.tiles import WINDOW, tile_bank

SUPERSAMPLING = 2
_SHIFT = 4  # fixed-point bits of cv2's sub-pixel coordinates
_RAMP = np.linspace(0.0, 1.0, 256)[:, None]

Colour: TypeAlias = Sequence[float] | np.ndarray  # RGB, 0..255
Points: TypeAlias = Sequence[Sequence[float] | np.ndarray] | np.ndarray  # (n, 2), x to the right, y down


@dataclass(frozen=True)
class Paint:
    """What a part is filled with: tile values 0..255 run from ``colour`` to ``second``."""

    colour: Colour
    second: Colour
    tile: str


@dataclass(frozen=True)
class Pose:
    """How a body stands in the image: degrees, and factors around 1 (``taper`` and ``bend`` around 0)."""

    rotation: float = 0.0
    flip: bool = False
    stretch: float = 1.0
    shear: float = 0.0
    taper: float = 0.0
    bend: float = 0.0


@dataclass(frozen=True)
class Sprite:
    """A rasterised body. ``rgba`` (h, w, 4) uint8 has its colours multiplied by alpha already.

    ``anchors`` are named points in sprite pixels (a saddle, a table top), which tie objects together;
    ``scale`` is the number of pixels to a unit of the drawing.
    """

    rgba: np.ndarray
    anchors: dict[str, tuple[float, float]]
    scale: float


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """An RGB colour (0..255) from hue, saturation and value in [0, 1]; the hue wraps around."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1))) * 255.0


def tint(colour: Colour, factor: float) -> np.ndarray:
    """``colour`` made darker (factor < 1) or moved towards white (factor > 1)."""
    colour = np.asarray(colour, float)
    return colour * factor if factor <= 1 else colour + (255.0 - colour) * min(factor - 1.0, 1.0)


def turn(points: Points, degrees: float, about: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """``points`` turned clockwise (y runs down) by ``degrees`` around ``about``."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return (np.asarray(points, float) - about) @ np.array([[cos, sin], [-sin, cos]]) + about


@lru_cache(maxsize=256)
def _spline(count: int, closed: bool, steps: int = 5) -> np.ndarray:
    """The matrix that takes ``count`` control points to a Catmull-Rom curve through them."""
    t = np.arange(steps) / steps
    basis = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )
    segments = count if closed else count - 1
    matrix = np.zeros((segments * steps + (not closed), count))
    for segment in range(segments):
        for offset in range(4):
            node = segment - 1 + offset
            node = node % count if closed else min(max(node, 0), count - 1)
            matrix[segment * steps : (segment + 1) * steps, node] += basis[:, offset]
    if not closed:
        matrix[-1, -1] = 1.0
    return matrix


@lru_cache(maxsize=8)
def _circle(count: int) -> np.ndarray:
    angle = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def smooth(points: Points, closed: bool = True) -> np.ndarray:
    """A smooth curve through ``points``, as a dense polyline."""
    points = np.asarray(points, float)
    return _spline(len(points), closed) @ points


@dataclass(frozen=True)
class _Part:
    """Polygons that are filled, or drawn as strokes, together: ``sizes`` points each."""

    kind: str  # fill, stroke or hair
    points: np.ndarray
    sizes: list[int]
    paint: Paint | np.ndarray
    width: float


def _split(points: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    ends = np.cumsum(sizes)
    return [points[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _faint(view: np.ndarray, strokes: list[np.ndarray], colour: np.ndarray, opacity: float = 0.45) -> None:
    """Blend one-pixel strokes into ``view``; where nothing lies below, alpha stays under the mask's half."""
    cover = np.zeros(view.shape[:2], np.uint8)
    cv2.polylines(cover, strokes, False, 255, 1, cv2.LINE_AA, _SHIFT)
    alpha = cover[..., None] * np.float32(opacity / 255.0)
    view[:] = view + alpha * (np.array([*colour, 255.0], np.float32) - view)


def mirrored(points: Points) -> np.ndarray:
    """A left-right symmetric outline from its right half, top to bottom."""
    half = np.asarray(points, float)
    return np.vstack([half, (half * (-1, 1))[::-1]])


class Pen:
    """Collects the parts of one body, back to front. Coordinates are free: the pose scales the whole body."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.edge = rng.uniform(0.45, 0.95)  # brightness of the contour of a part against its filling
        self._parts: list[_Part] = []
        self._anchors: dict[str, np.ndarray] = {}
        self._matrix = np.eye(2)
        self._offset = np.zeros(2)
        self._scale = 1.0  # what a stroke's width is multiplied with

    @contextmanager
    def frame(
        self,
        x: float = 0.0,
        y: float = 0.0,
        angle: float = 0.0,
        scale: float | tuple[float, float] = 1.0,
    ) -> Iterator[None]:
        """Draw the block's parts in a frame of their own: scaled, turned, then moved to (x, y)."""
        before = self._matrix, self._offset, self._scale
        sx, sy = scale if isinstance(scale, tuple) else (scale, scale)
        a = np.deg2rad(angle)
        local = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([sx, sy])
        self._offset = self._offset + self._matrix @ np.array([x, y])
        self._matrix = self._matrix @ local
        self._scale *= float(np.sqrt(abs(sx * sy)))
        yield
        self._matrix, self._offset, self._scale = before

    def _add(self, kind: str, polygons: list[Points], paint: Paint | Colour, width: float = 0.0) -> None:
        points = np.concatenate([np.asarray(p, float) for p in polygons]) @ self._matrix.T + self._offset
        filling = paint if isinstance(paint, Paint) else np.asarray(paint, float)
        self._parts.append(_Part(kind, points, [len(p) for p in polygons], filling, width * self._scale))

    @property
    def anchors(self) -> set[str]:
        """The names of the points that ``anchor`` has set."""
        return set(self._anchors)

    def anchor(self, name: str, x: float, y: float) -> None:
        """Name a point of the body."""
        self._anchors[name] = self._matrix @ np.array([x, y]) + self._offset

    def poly(self, points: Points, paint: Paint | Colour) -> None:
        """A filled polygon."""
        self._add("fill", [points], paint)

    def blob(self, points: Points, paint: Paint | Colour) -> None:
        """A filled smooth outline through ``points``."""
        self._add("fill", [smooth(points)], paint)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, paint: Paint | Colour, angle: float = 0.0
    ) -> None:
        """A filled ellipse, its first axis turned by ``angle`` degrees."""
        circle = _circle(12 if max(rx, ry) < 0.08 else 28) * (rx, ry)
        self._add("fill", [np.add(turn(circle, angle) if angle else circle, (x, y))], paint)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, paint: Paint | Colour, rounding: float = 0.0
    ) -> None:
        """A filled rectangle, its corners cut by ``rounding`` and smoothed."""
        if not rounding:
            self._add("fill", [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]], paint)
            return
        arc = np.vstack([_circle(16), _circle(16)[:1]]) * rounding
        quarter = (arc[8:13], arc[12:17], arc[0:5], arc[4:9])
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        inward = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
        outline = [
            q + np.array(c) + np.array(i) * rounding for q, c, i in zip(quarter, corners, inward, strict=True)
        ]
        self._add("fill", [np.vstack(outline)], paint)

    def line(self, points: Points, width: float, paint: Colour) -> None:
        """A stroke through ``points``; never thinner than a pixel of the final image."""
        self._add("stroke", [points], paint, width)

    def curve(self, points: Points, width: float, paint: Colour) -> None:
        """A smooth stroke through ``points``; never thinner than a pixel of the final image."""
        self._add("stroke", [smooth(points, closed=False)], paint, width)

    def ring(
        self, x: float, y: float, radius: float, width: float, paint: Colour, squeeze: float = 1.0
    ) -> None:
        """A circle drawn as a stroke, squeezed along x."""
        circle = np.vstack([_circle(28), _circle(28)[:1]]) * (radius * squeeze, radius) + (x, y)
        self._add("stroke", [circle], paint, width)

    def hair(self, strokes: Sequence[Points], paint: Colour) -> None:
        """Hairlines (whiskers, spokes): seen in the image, too thin and faint for the mask."""
        self._add("hair", list(strokes), paint)

    def limb(self, points: Points, widths: Sequence[float], paint: Paint | Colour) -> None:
        """A jointed limb: straight segments between ``points``, as wide as ``widths`` at each of them."""
        points, half = np.asarray(points, float), np.asarray(widths, float) / 2
        along = np.diff(points, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        segments = [
            np.stack([points[i] + n * half[i], points[i + 1] + n * half[i + 1],
                      points[i + 1] - n * half[i + 1], points[i] - n * half[i]])
            for i, n in enumerate(normal)
        ]  # fmt: skip
        joints = [_circle(14) * h + p for p, h in zip(points, half, strict=True)]
        self._add("fill", segments + joints, paint)

    def puffs(self, points: Points, radius: float | Sequence[float], paint: Paint | Colour) -> None:
        """A cloud: the union of discs around ``points`` (wool, foliage)."""
        points = np.asarray(points, float)
        radii = np.broadcast_to(np.asarray(radius, float), len(points))
        self._add("fill", [_circle(14) * r + p for p, r in zip(points, radii, strict=True)], paint)

    def render(
        self, pose: Pose, limit: tuple[float, float], extent: float | None = None, scale: float | None = None
    ) -> Sprite:
        """Rasterise the body with its bounding box as large as a square of side ``extent`` pixels.

        Or with ``scale`` pixels to a unit. It is made smaller where it would exceed ``limit``
        (width, height) pixels.
        """
        points = self._posed(pose)
        low, high = points.min(axis=0), points.max(axis=0)
        span = np.maximum(high - low, 1e-6)
        wanted = scale if extent is None else extent / float(np.sqrt(span[0] * span[1]))
        scale = min(wanted, limit[0] / span[0], limit[1] / span[1])
        margin = 2.0 + 0.5 * scale * max(part.width for part in self._parts)
        width, height = (int(np.ceil(v)) for v in span * scale + 2 * margin)
        canvas = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING, 4), np.uint8)
        self._rasterise(canvas, ((points - low) * scale + margin) * SUPERSAMPLING, scale * SUPERSAMPLING)
        rgba = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
        anchors = {name: tuple((p - low) * scale + margin) for name, p in self._posed_anchors.items()}
        return Sprite(rgba, anchors, scale)

    def draw_on(self, canvas: np.ndarray) -> None:
        """Draw the parts straight on an opaque (h, w, 4) uint8 image; coordinates are its pixels."""
        self._rasterise(canvas, np.concatenate([part.points for part in self._parts]), 1.0)

    def _rasterise(self, canvas: np.ndarray, pixels: np.ndarray, scale: float) -> None:
        # cv2 puts the centre of the first pixel at 0, we put its corner there.
        fixed = np.round((pixels - 0.5) * (1 << _SHIFT)).astype(np.int32)
        bounds = np.array(canvas.shape[1::-1])
        start = 0
        for part in self._parts:
            points = fixed[start : start + len(part.points)]
            start += len(part.points)
            low = np.maximum((points.min(axis=0) >> _SHIFT) - 1, 0)
            high = np.minimum((points.max(axis=0) >> _SHIFT) + 3, bounds)
            if high[0] <= low[0] or high[1] <= low[1]:
                continue  # a background part outside of the image
            if part.kind == "stroke":
                thick = round(max(part.width * scale, 1.2 * SUPERSAMPLING))
                colour = (*np.asarray(part.paint).tolist(), 255.0)
                cv2.polylines(canvas, _split(points, part.sizes), False, colour, thick, cv2.LINE_AA, _SHIFT)
                continue
            view = canvas[low[1] : high[1], low[0] : high[0]]
            shapes = _split(points - (low << _SHIFT).astype(np.int32), part.sizes)
            if part.kind == "hair":
                _faint(view, shapes, part.paint)
            else:
                self._fill(view, shapes, part.paint)

    def _posed(self, pose: Pose) -> np.ndarray:
        """All points in the final orientation, in the order of parts and polygons."""
        points = np.concatenate([part.points for part in self._parts])
        names = list(self._anchors)
        anchored = np.array([self._anchors[n] for n in names]).reshape(-1, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        span = max(high - low)
        every = (np.concatenate([points, anchored]) - (low + high) / 2) * (2.0 / span)
        x, y = every[:, 0].copy(), every[:, 1].copy()
        x = x * (1.0 + pose.taper * y) + pose.shear * y + pose.bend * y * y
        y = y * (1.0 + 0.6 * pose.taper * x) + 0.6 * pose.bend * x * x
        every = np.stack([x * pose.stretch, y / pose.stretch], axis=1) * (span / 2.0)
        if pose.flip:
            every[:, 0] = -every[:, 0]
        every = turn(every, pose.rotation)
        self._posed_anchors = dict(zip(names, every[len(points) :], strict=True))
        return every[: len(points)]

    def _fill(self, view: np.ndarray, shapes: list[np.ndarray], paint: Paint | np.ndarray) -> None:
        """Fill the union of ``shapes``; ``view`` is the part of the canvas around them."""
        height, width = view.shape[:2]
        base = paint.colour if isinstance(paint, Paint) else paint
        if isinstance(paint, Paint) or width * height > 700:
            if not isinstance(paint, Paint):
                paint = Paint(tint(paint, 1.12), tint(paint, 0.86), "shade")
            inside = np.zeros((height, width), np.uint8)
            for shape in shapes:  # one by one: cv2 leaves out what an even number of polygons covers
                cv2.fillPoly(inside, [shape], 255, cv2.LINE_8, _SHIFT)
            lut = np.full((256, 4), 255, np.uint8)
            lut[:, :3] = np.asarray(paint.colour) + _RAMP * np.subtract(paint.second, paint.colour)
            pattern = self._pattern(paint.tile, width, height)
            patch = lut.view(np.uint32).ravel().take(pattern).view(np.uint8).reshape(height, width, 4)
            cv2.copyTo(patch, inside, view)
        else:
            for shape in shapes:
                cv2.fillPoly(view, [shape], (*(float(v) for v in base), 255.0), cv2.LINE_AA, _SHIFT)
        if len(shapes) == 1 and width * height > 250:
            contour = (*(float(v) * self.edge for v in base), 255.0)
            cv2.polylines(view, shapes, True, contour, 1, cv2.LINE_AA, _SHIFT)

    def _pattern(self, name: str, width: int, height: int) -> np.ndarray:
        """A (height, width) piece of a tile: fitted to the part, or cut at a random place."""
        tile = tile_bank()[name]
        if tile.shape[0] < WINDOW:
            return cv2.resize(tile, (width, height), interpolation=cv2.INTER_LINEAR)
        if width > WINDOW or height > WINDOW:
            factor = max(width, height) / WINDOW
            tile = cv2.resize(tile, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        y = int(self.rng.integers(tile.shape[0] - height + 1))
        x = int(self.rng.integers(tile.shape[1] - width + 1))
        return np.ascontiguousarray(tile[y : y + height, x : x + width])
