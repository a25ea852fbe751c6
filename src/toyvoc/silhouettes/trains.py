"""Drawings of VOC's trains."""

# An outline reads better as rows of points than with a line for each.
# fmt: off
from itertools import pairwise

import numpy as np

from toyvoc.silhouettes.pen import Colour, Paint, Pen, hsv, tint
from toyvoc.silhouettes.vehicles import BLACK, glass, lacquer


def train(pen: Pen) -> None:
    """A streamlined train or a steam engine with carriages from the side, or a train coming round."""
    draw = pen.rng.choice([_train_front, _train_side, _train_steam], p=[0.4, 0.33, 0.27])
    draw(pen)


def _carriage(pen: Pen, left: float, right: float, body: Colour, trim: Colour, pane: Paint) -> None:
    pen.rect(left, -0.3, right, 0.24, body, rounding=0.04)
    pen.rect(left, 0.06, right, 0.13, trim)
    for x in np.arange(left + 0.07, right - 0.14, 0.19):
        pen.rect(x, -0.19, x + 0.13, 0.0, pane)
    for x in (left + 0.1, left + 0.26, right - 0.26, right - 0.1):
        pen.ellipse(x, 0.28, 0.07, 0.07, BLACK)


def _train_side(pen: Pen) -> None:
    rng = pen.rng
    body, trim, pane = lacquer(rng), lacquer(rng), glass(rng)
    wagons = int(rng.integers(1, 3))
    pen.line([(0.16 - 0.84 * wagons, 0.26), (1.25, 0.26)], 0.05, (50, 50, 52))
    for k in range(wagons):
        right = 0.16 - 0.86 * k
        _carriage(pen, right - 0.82, right, body, trim, pane)
    nose = rng.uniform(0.15, 0.5)
    pen.blob([(0.2, -0.3), (0.3, -0.31), (1.1 - nose, -0.31), (1.26 - nose * 0.4, -0.12), (1.36, 0.1),
              (1.3, 0.24), (1.0, 0.25), (0.2, 0.25), (0.19, 0.0)], body)
    pen.rect(0.2, 0.06, 1.3, 0.13, trim)
    pen.poly([(1.06 - nose, -0.24), (1.2 - nose * 0.55, -0.2), (1.26 - nose * 0.4, -0.02),
              (1.06 - nose, -0.02)], pane)
    for x in np.arange(0.28, 0.9 - nose, 0.19):
        pen.rect(x, -0.19, x + 0.13, 0.0, pane)
    pen.ellipse(1.27, 0.13, 0.05, 0.035, (255, 244, 200))
    for x in (0.32, 0.48, 0.9, 1.06):
        pen.ellipse(x, 0.28, 0.07, 0.07, BLACK)
    if rng.random() < 0.6:
        pen.line([(0.3, -0.3), (0.44, -0.46), (0.3, -0.6)], 0.03, BLACK)
        pen.line([(0.18, -0.6), (0.44, -0.6)], 0.03, BLACK)


def _train_steam(pen: Pen) -> None:
    rng = pen.rng
    body = hsv(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.15, 0.5))
    trim, coach = hsv(rng.uniform(0, 0.14), 0.8, 0.8), lacquer(rng)
    pen.line([(-1.1, 0.24), (0.9, 0.24)], 0.06, BLACK)
    _carriage(pen, -1.15, -0.32, coach, tint(coach, 0.7), glass(rng))
    pen.rect(-0.12, -0.16, 0.78, 0.16, Paint(tint(body, 1.3), tint(body, 0.55), "shade"), rounding=0.05)
    for x in (0.1, 0.36, 0.6):
        pen.line([(x, -0.15), (x, 0.15)], 0.03, trim)
    pen.rect(0.76, -0.17, 0.84, 0.17, BLACK)
    pen.rect(-0.28, -0.36, 0.06, 0.22, body)
    pen.rect(-0.34, -0.42, 0.12, -0.34, BLACK)
    pen.rect(-0.18, -0.26, 0.0, -0.06, glass(rng))
    pen.poly([(0.58, -0.15), (0.6, -0.36), (0.54, -0.48), (0.78, -0.48), (0.72, -0.36), (0.74, -0.15)], BLACK)
    pen.ellipse(0.3, -0.18, 0.09, 0.09, trim)
    pen.poly([(0.8, 0.2), (1.04, 0.42), (0.7, 0.42)], tint(trim, 0.6))  # cowcatcher
    for x, r in ((-0.12, 0.17), (0.26, 0.17), (0.64, 0.11)):
        pen.ellipse(x, 0.42 - r, r, r, BLACK)
        pen.ring(x, 0.42 - r, r * 0.8, 0.03, trim)
        pen.line([(x - r * 0.7, 0.42 - r), (x + r * 0.7, 0.42 - r)], 0.02, trim)
    pen.line([(-0.12, 0.3), (0.3, 0.28)], 0.045, (150, 150, 152))


def _train_front(pen: Pen) -> None:
    rng = pen.rng
    body, trim, face = lacquer(rng), lacquer(rng), lacquer(rng)
    far, rise = rng.uniform(1.0, 1.6), rng.uniform(0.1, 0.25)
    # The carriages behind run to a vanishing point on the right.
    near_top, near_low, far_top, far_low = -0.72, 0.52, -0.36 + rise, 0.16 + rise
    pen.poly([(0.4, near_top), (0.4 + far, far_top), (0.4 + far, far_low), (0.4, near_low)], tint(body, 0.85))

    def along(t: float, v: float) -> tuple[float, float]:
        top, low = near_top + t * (far_top - near_top), near_low + t * (far_low - near_low)
        return 0.4 + t * far, top + v * (low - top)

    pane = glass(rng)
    cuts = 1 - 0.8 ** np.arange(0.4, 9)
    for a, b in pairwise(cuts):
        b = a + 0.72 * (b - a)
        pen.poly([along(a, 0.2), along(b, 0.2), along(b, 0.5), along(a, 0.5)], pane)
    pen.poly([along(0.05, 0.66), along(1, 0.66), along(1, 0.76), along(0.05, 0.76)], trim)
    pen.poly([along(0, 0.98), along(1, 0.98), along(1, 1.1), along(0, 1.12)], BLACK)
    for x in (-0.42, 0.2):
        pen.rect(x, 0.5, x + 0.2, 0.78, BLACK)
    pen.blob([(-0.52, -0.62), (-0.3, -0.84), (0.22, -0.84), (0.44, -0.62), (0.5, 0.2), (0.46, 0.6),
              (-0.54, 0.6), (-0.58, 0.2)], body)
    pen.blob([(-0.54, 0.1), (0.46, 0.1), (0.47, 0.4), (0.4, 0.58), (-0.48, 0.58), (-0.55, 0.4)], face)
    pen.blob([(-0.44, -0.5), (-0.28, -0.62), (0.2, -0.62), (0.36, -0.5), (0.39, 0.0), (-0.47, 0.0)], pane)
    pen.line([(-0.04, -0.6), (-0.04, 0.0)], 0.035, tint(body, 0.6))
    pen.ellipse(-0.04, -0.72, 0.06, 0.05, (255, 244, 200))
    for x in (-0.4, 0.32):
        pen.ellipse(x, 0.28, 0.08, 0.08, (255, 244, 200))
        pen.ellipse(x, 0.62, 0.09, 0.06, (70, 70, 72))  # buffers
    pen.line([(-0.5, 0.72), (0.42, 0.72)], 0.05, (60, 60, 60))


TRAINS = {"train": train}
