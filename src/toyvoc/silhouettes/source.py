"""Drawings for the source task, to pretrain on without ImageNet: shapes that are no VOC class."""

# An outline reads better as rows of points than with a line for each.
# fmt: off
from collections.abc import Callable, Mapping

import numpy as np

from toyvoc.silhouettes.pen import Paint, Pen, hsv, mirrored, smooth, tint, turn
from toyvoc.silhouettes.source_animals import (
    BLACK,
    SOURCE_ANIMALS,
    WHITE,
    any_colour,
    any_paint,
)


def _tree(pen: Pen) -> None:
    rng, green = pen.rng, hsv(pen.rng.uniform(0.1, 0.42), 0.65, pen.rng.uniform(0.3, 0.7))
    pen.poly([(-0.09, 0.1), (0.09, 0.1), (0.14, 1.0), (-0.14, 1.0)],
             Paint((120, 84, 56), (70, 46, 30), "hair"))
    if rng.random() < 0.5:
        for k in range(3):
            w, y = 0.42 + 0.16 * k, -0.85 + 0.42 * k
            pen.poly([(0, y - 0.35), (w, y + 0.35), (-w, y + 0.35)], Paint(green, tint(green, 0.6), "leaf"))
    else:
        a = np.arange(9) * 2 * np.pi / 9
        crown = np.stack([0.45 * np.cos(a), 0.4 * np.sin(a) - 0.4], axis=1)
        pen.puffs(np.vstack([crown, [(0, -0.4)]]), [*rng.uniform(0.24, 0.34, 9), 0.4],
                  Paint(green, tint(green, 0.6), "leaf"))


def _house(pen: Pen) -> None:
    rng = pen.rng
    pen.rect(0.35, -0.95, 0.52, -0.4, any_paint(rng))
    pen.rect(-0.75, -0.25, 0.75, 0.8, Paint(any_colour(rng), any_colour(rng),
                                            str(rng.choice(["brick", "shade", "plank"]))))
    pen.poly([(-0.95, -0.22), (0, -rng.uniform(0.8, 1.15)), (0.95, -0.22)], any_paint(rng))
    pen.rect(-0.15, 0.25, 0.18, 0.8, any_colour(rng))
    for x in (-0.6, 0.3):
        pen.rect(x, -0.05, x + 0.3, 0.25, hsv(0.15, 0.4, 0.9))
        pen.line([(x + 0.15, -0.05), (x + 0.15, 0.25)], 0.03, BLACK)


def _star(pen: Pen) -> None:
    tips = int(pen.rng.integers(5, 8))
    a = np.arange(2 * tips) * np.pi / tips - np.pi / 2
    r = np.where(np.arange(2 * tips) % 2, pen.rng.uniform(0.38, 0.5), 1.0)
    pen.poly(np.stack([r * np.cos(a), r * np.sin(a)], axis=1), any_paint(pen.rng))


def _umbrella(pen: Pen) -> None:
    rng = pen.rng
    pen.curve([(0, -0.9), (0, 0.7), (0.12, 0.85), (0.25, 0.7)], 0.06, BLACK)
    one, two = any_colour(rng), any_colour(rng)
    x = np.linspace(-1, 1, 5)
    for k in range(4):
        arc = [(x[k], 0), ((x[k] + x[k + 1]) / 2, -0.12), (x[k + 1], 0)]
        pen.poly([*smooth(arc, closed=False), (x[k + 1] * 0.5, -0.6), (0, -0.8), (x[k] * 0.5, -0.6)],
                 one if k % 2 else two)


def _mug(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    pen.ring(0.55, 0.1, 0.34, 0.13, tint(c.colour, 0.8))
    pen.poly([(-0.6, -0.55), (0.6, -0.55), (0.52, 0.75), (-0.52, 0.75)], c)
    pen.ellipse(0, -0.55, 0.6, 0.14, tint(c.colour, 0.5))
    pen.ellipse(0, 0.1, 0.2, 0.2, any_colour(rng))


def _key(pen: Pen) -> None:
    c = hsv(pen.rng.uniform(0.08, 0.6), 0.4, pen.rng.uniform(0.5, 0.9))
    pen.ring(-0.65, 0, 0.27, 0.16, c)
    pen.line([(-0.4, 0), (1.0, 0)], 0.14, c)
    for x in (0.6, 0.78, 0.95)[: int(pen.rng.integers(2, 4))]:
        pen.line([(x, 0), (x, pen.rng.uniform(0.2, 0.34))], 0.11, c)


def _guitar(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    pen.poly([(-0.06, -1.0), (0.06, -1.0), (0.06, 0.0), (-0.06, 0.0)], (84, 54, 34))
    pen.rect(-0.11, -1.25, 0.11, -0.98, BLACK)
    pen.blob(mirrored([(0.06, -0.15), (0.33, -0.1), (0.3, 0.2), (0.48, 0.55), (0.3, 0.9), (0.05, 0.95)]), c)
    pen.ellipse(0, 0.18, 0.15, 0.15, BLACK)
    pen.rect(-0.2, 0.58, 0.2, 0.65, BLACK)
    pen.hair([[(x, -1.0), (x, 0.6)] for x in (-0.03, 0.03)], WHITE)
    if rng.random() < 0.3:
        pen.blob([(0.1, 0.4), (0.3, 0.4), (0.3, 0.7), (0.15, 0.7)], any_colour(rng))


def _mushroom(pen: Pen) -> None:
    rng, cap = pen.rng, any_colour(pen.rng)
    pen.blob(mirrored([(0.16, -0.1), (0.17, 0.4), (0.27, 0.85)]), Paint(WHITE, (190, 180, 160), "shade"))
    pen.blob([(-0.85, 0.02), (-0.6, -0.5), (0, -0.75), (0.6, -0.5), (0.85, 0.02), (0, 0.12)], cap)
    for _ in range(int(rng.integers(3, 8))):
        x = rng.uniform(-0.55, 0.55)
        pen.ellipse(x, rng.uniform(-0.5 + 0.4 * abs(x), -0.1), rng.uniform(0.05, 0.12), 0.07, WHITE)


def _ladder(pen: Pen) -> None:
    c, tilt = any_colour(pen.rng), pen.rng.uniform(0, 0.12)
    rungs = int(pen.rng.integers(5, 8))
    for s in (-1, 1):
        pen.line([(s * (0.32 + tilt), 1.1), (s * 0.32, -1.1)], 0.1, c)
    for y in np.linspace(-0.95, 0.95, rungs):
        pen.line([(-0.36, y), (0.36, y)], 0.08, tint(c, 0.75))


def _lamp(pen: Pen) -> None:
    rng = pen.rng
    tall = rng.uniform(0.4, 1.0)
    pen.ellipse(0, tall, 0.34, 0.09, BLACK)
    pen.line([(0, tall), (0, -0.3)], 0.08, any_colour(rng))
    pen.poly([(-0.26, -0.95), (0.26, -0.95), (0.58, -0.25), (-0.58, -0.25)], any_paint(rng))


def _shoe(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    pen.blob([(-0.85, -0.45), (-0.3, -0.5), (-0.1, -0.2), (0.6, 0.02), (0.95, 0.22), (0.9, 0.38),
              (-0.85, 0.38)], c)
    pen.rect(-0.9, 0.34, 0.97, 0.48, WHITE * rng.uniform(0.3, 1))
    for k in range(3):
        pen.line([(-0.16 + 0.17 * k, -0.32 + 0.1 * k), (0.02 + 0.16 * k, -0.08 + 0.05 * k)], 0.05, WHITE)


def _hat(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    tall = rng.uniform(0.5, 1.0)
    pen.blob(mirrored([(0.4, -tall), (0.46, -tall * 0.4), (0.5, 0.05)]), c)
    pen.rect(-0.5, -0.14, 0.5, 0.03, any_colour(rng))
    pen.ellipse(0, 0.1, 1.0, 0.16, tint(c.colour, 0.85))


def _anchor(pen: Pen) -> None:
    c = any_colour(pen.rng)
    pen.ring(0, -0.85, 0.16, 0.09, c)
    pen.line([(0, -0.7), (0, 0.85)], 0.15, c)
    pen.line([(-0.42, -0.45), (0.42, -0.45)], 0.13, c)
    pen.curve([(-0.75, 0.25), (-0.5, 0.72), (0, 0.88), (0.5, 0.72), (0.75, 0.25)], 0.15, c)
    for s in (-1, 1):
        pen.poly([(s * 0.92, 0.42), (s * 0.76, 0.05), (s * 0.52, 0.38)], c)


def _hammer(pen: Pen) -> None:
    c = hsv(0.6, 0.08, pen.rng.uniform(0.25, 0.7))
    pen.limb([(0, -0.7), (0, 0.2), (0, 1.0)], (0.14, 0.15, 0.2), Paint((176, 120, 70), (110, 70, 40), "wood"))
    pen.rect(-0.2, -0.95, 0.5, -0.6, c)
    pen.poly([(-0.2, -0.95), (-0.75, -0.6), (-0.68, -0.52), (-0.2, -0.62)], c)


def _scissors(pen: Pen) -> None:
    rng, c, gap = pen.rng, any_colour(pen.rng), pen.rng.uniform(8, 26)
    for s in (-1, 1):
        pen.poly(turn([(-0.07, 0.1), (0.0, -1.1), (0.09, 0.1)], s * gap),
                 hsv(0.6, 0.05, rng.uniform(0.6, 0.9)))
        x, y = turn([(0, 0.62)], s * gap)[0]
        pen.line([(0, 0.05), (x * 0.6, y * 0.6)], 0.12, c)
        pen.ring(x, y, 0.25, 0.11, c)
    pen.ellipse(0, 0.04, 0.07, 0.07, BLACK)


def _apple(pen: Pen) -> None:
    c = hsv(pen.rng.uniform(-0.05, 0.32), 0.8, pen.rng.uniform(0.55, 0.9))
    pen.curve([(0, -0.5), (0.05, -0.75), (0.15, -0.9)], 0.08, (90, 60, 36))
    pen.blob([(0.05, -0.7), (0.35, -0.95), (0.65, -0.85), (0.35, -0.65)], (80, 150, 60))
    pen.blob([(0, -0.5), (0.45, -0.65), (0.85, -0.2), (0.62, 0.6), (0.22, 0.85), (0, 0.76), (-0.22, 0.85),
              (-0.62, 0.6), (-0.85, -0.2), (-0.45, -0.65)], Paint(tint(c, 1.25), tint(c, 0.6), "ball"))


def _banana(pen: Pen) -> None:
    c = hsv(pen.rng.uniform(0.1, 0.24), 0.75, 0.92)
    path = smooth([(-0.85, -0.5), (-0.6, 0.15), (0.0, 0.5), (0.7, 0.35)], closed=False)
    pen.limb(path, 0.1 + 0.26 * np.sin(np.linspace(0.1, np.pi, len(path))), Paint(c, tint(c, 0.75), "blotch"))
    pen.limb([(-0.85, -0.45), (-0.9, -0.72)], (0.12, 0.08), (110, 90, 40))


def _clock(pen: Pen) -> None:
    rng, rim = pen.rng, any_colour(pen.rng)
    if rng.random() < 0.5:
        for s in (-1, 1):
            pen.ellipse(s * 0.5, -0.85, 0.26, 0.2, tint(rim, 0.8), angle=s * 35)
            pen.line([(s * 0.5, 0.7), (s * 0.72, 1.0)], 0.12, tint(rim, 0.6))
    pen.ellipse(0, 0, 0.9, 0.9, rim)
    pen.ellipse(0, 0, 0.72, 0.72, WHITE)
    for a in np.arange(12) * np.pi / 6:
        pen.line([(0.58 * np.cos(a), 0.58 * np.sin(a)), (0.66 * np.cos(a), 0.66 * np.sin(a))], 0.05, BLACK)
    for r, w in ((0.38, 0.08), (0.56, 0.05)):
        a = rng.uniform(0, 2 * np.pi)
        pen.line([(0, 0), (r * np.cos(a), r * np.sin(a))], w, BLACK)


def _candle(pen: Pen) -> None:
    rng, wax = pen.rng, any_paint(pen.rng)
    tall, wide = rng.uniform(0.5, 1.0), rng.uniform(0.16, 0.3)
    pen.ellipse(0, 0.9, 0.55, 0.13, (150, 120, 60))
    pen.rect(-wide, 0.9 - tall, wide, 0.88, wax)
    pen.line([(0, 0.9 - tall), (0, 0.78 - tall)], 0.05, BLACK)
    pen.blob([(0, 0.22 - tall), (0.14, 0.55 - tall), (0, 0.76 - tall), (-0.14, 0.55 - tall)], (255, 190, 60))
    pen.ellipse(0, 0.6 - tall, 0.06, 0.12, (255, 244, 190))


def _crown(pen: Pen) -> None:
    rng, c = pen.rng, hsv(pen.rng.uniform(0.08, 0.6), 0.6, 0.85)
    x = np.linspace(-0.85, 0.85, int(rng.choice([5, 7, 9])))
    y = np.where(np.arange(len(x)) % 2, -0.02, -0.62)
    pen.poly([*zip(x, y), (0.72, 0.55), (-0.72, 0.55)], Paint(tint(c, 1.2), tint(c, 0.7), "sheen"))
    pen.rect(-0.74, 0.34, 0.74, 0.56, tint(c, 0.7))
    for a, b in zip(x[::2], y[::2]):
        pen.ellipse(a, b - 0.03, 0.09, 0.09, any_colour(rng))


def _heart(pen: Pen) -> None:
    pen.blob([(0, -0.38), (0.4, -0.72), (0.85, -0.45), (0.75, 0.1), (0.02, 0.85), (-0.02, 0.85),
              (-0.75, 0.1), (-0.85, -0.45), (-0.4, -0.72)], any_paint(pen.rng),)


def _glasses(pen: Pen) -> None:
    rng, c = pen.rng, any_colour(pen.rng)
    lens = hsv(rng.random(), 0.3, rng.uniform(0.15, 0.8))
    for s in (-1, 1):
        pen.ellipse(s * 0.52, 0, 0.4, 0.32, lens)
        pen.ring(s * 0.52, 0, 0.34, 0.1, c, 1.18)
        pen.line([(s * 0.92, -0.08), (s * 1.12, -0.2), (s * 1.0, -0.42)], 0.08, c)
    pen.curve([(-0.14, -0.05), (0, -0.14), (0.14, -0.05)], 0.09, c)


def _balloon(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    for x in (-0.16, 0.16):
        pen.line([(x * 2, 0.3), (x, 0.8)], 0.03, (110, 80, 50))
    pen.rect(-0.2, 0.76, 0.2, 1.05, Paint((170, 120, 70), (110, 74, 40), "weave"))
    pen.blob(mirrored([(0.05, -1.0), (0.6, -0.75), (0.78, -0.25), (0.5, 0.2), (0.2, 0.45)]), c)
    pen.blob(mirrored([(0.03, -1.0), (0.25, -0.6), (0.28, -0.2), (0.1, 0.42)]), any_colour(rng))


def _rocket(pen: Pen) -> None:
    rng, fin = pen.rng, any_colour(pen.rng)
    pen.blob([(0, 1.25), (0.16, 0.75), (-0.16, 0.75)], (255, 170, 50))
    for s in (-1, 1):
        pen.poly([(s * 0.22, 0.2), (s * 0.6, 0.8), (s * 0.2, 0.7)], fin)
    pen.blob(mirrored([(0.02, -1.05), (0.26, -0.6), (0.32, 0.1), (0.2, 0.75)]), any_paint(rng))
    pen.poly([(0, -1.06), (0.24, -0.62), (-0.24, -0.62)], fin)
    pen.ellipse(0, -0.25, 0.14, 0.14, hsv(0.56, 0.5, 0.8))


def _tent(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    pen.poly([(-0.25, -0.7), (0.55, -0.85), (1.1, 0.5), (0.35, 0.7)], tint(c.colour, 0.7))
    pen.poly([(-0.25, -0.7), (0.35, 0.7), (-1.0, 0.7)], c)
    pen.poly([(-0.25, -0.45), (-0.05, 0.7), (-0.5, 0.7)], BLACK)
    pen.line([(-0.25, -0.7), (-1.2, 0.6)], 0.03, WHITE * rng.uniform(0.4, 1))


def _windmill(pen: Pen) -> None:
    rng, a0 = pen.rng, pen.rng.uniform(0, 90)
    pen.poly([(-0.2, -0.4), (0.2, -0.4), (0.36, 1.0), (-0.36, 1.0)], any_paint(rng))
    pen.poly([(-0.26, -0.38), (0, -0.68), (0.26, -0.38)], any_colour(rng))
    sail = any_colour(rng)
    for a in a0 + 90 * np.arange(4):
        pen.poly(np.add(turn([(0, -0.05), (0.22, -0.2), (0.22, -0.95), (0, -0.95)], a), (0, -0.4)), sail)
        pen.line(np.add(turn([(0, 0), (0, -0.98)], a), (0, -0.4)), 0.045, (80, 56, 40))


def _lighthouse(pen: Pen) -> None:
    rings = Paint(any_colour(pen.rng), WHITE, "band")
    pen.poly([(-0.2, -0.6), (0.2, -0.6), (0.34, 1.0), (-0.34, 1.0)], rings)
    pen.rect(-0.28, -0.68, 0.28, -0.58, BLACK)
    pen.rect(-0.16, -0.92, 0.16, -0.66, (255, 236, 150))
    pen.poly([(-0.22, -0.9), (0, -1.12), (0.22, -0.9)], any_colour(pen.rng))


def _icecream(pen: Pen) -> None:
    rng = pen.rng
    pen.poly([(-0.34, 0), (0.34, 0), (0, 1.1)], Paint((216, 160, 90), (160, 104, 50), "plaid"))
    for k in range(int(rng.integers(1, 4))):
        pen.puffs([(-0.24, -0.05 - 0.38 * k), (0.24, -0.05 - 0.38 * k), (0, -0.18 - 0.38 * k)],
                  (0.18, 0.18, 0.3), any_colour(rng),)


def _bell(pen: Pen) -> None:
    c = hsv(pen.rng.uniform(0.08, 0.6), 0.5, pen.rng.uniform(0.5, 0.9))
    pen.ring(0, -0.85, 0.12, 0.08, tint(c, 0.7))
    pen.ellipse(0, 0.72, 0.16, 0.16, tint(c, 0.5))
    pen.blob(mirrored([(0.1, -0.78), (0.4, -0.5), (0.48, 0.2), (0.78, 0.62)]),
             Paint(tint(c, 0.7), tint(c, 1.3), "sheen"))
    pen.rect(-0.76, 0.52, 0.76, 0.66, tint(c, 0.75))


def _kite(pen: Pen) -> None:
    rng, c, d = pen.rng, any_colour(pen.rng), any_colour(pen.rng)
    tail = smooth([(0, 0.6), (0.2, 0.85), (-0.1, 1.1), (0.15, 1.4)], closed=False)
    pen.line(tail, 0.03, BLACK)
    for p in tail[5::5]:
        pen.poly([p, np.add(p, (0.13, -0.08)), np.add(p, (0.13, 0.08))], c)
        pen.poly([p, np.add(p, (-0.13, -0.08)), np.add(p, (-0.13, 0.08))], d)
    wide = rng.uniform(0.5, 0.75)
    pen.poly([(0, -0.9), (wide, -0.2), (0, 0.6)], c)
    pen.poly([(0, -0.9), (-wide, -0.2), (0, 0.6)], d)


def _drum(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    pen.rect(-0.8, -0.25, 0.8, 0.6, c)
    pen.ellipse(0, 0.6, 0.8, 0.22, tint(c.colour, 0.6))
    x = np.linspace(-0.78, 0.78, 9)
    pen.line(np.stack([x, np.where(np.arange(9) % 2, 0.6, -0.2)], axis=1), 0.04, WHITE)
    pen.ellipse(0, -0.25, 0.8, 0.24, WHITE * rng.uniform(0.75, 1))
    pen.line([(-0.9, -0.95), (0.0, -0.3)], 0.07, (170, 120, 70))
    pen.line([(0.95, -0.9), (0.2, -0.25)], 0.07, (170, 120, 70))


def _camera(pen: Pen) -> None:
    rng = pen.rng
    pen.rect(-0.3, -0.62, 0.25, -0.3, tint(any_colour(rng), 0.6))
    pen.rect(-0.9, -0.42, 0.9, 0.55, any_paint(rng), rounding=0.1)
    for r, v in ((0.44, 0.75), (0.36, 0.1), (0.2, 0.35)):
        pen.ellipse(0, 0.06, r, r, hsv(0.6, 0.2, v))
    pen.ellipse(-0.08, -0.02, 0.06, 0.06, WHITE)
    pen.rect(0.55, -0.32, 0.78, -0.16, (250, 240, 190))


def _leaf(pen: Pen) -> None:
    c = hsv(pen.rng.uniform(0.02, 0.4), 0.65, pen.rng.uniform(0.4, 0.85))
    pen.curve([(0, 1.2), (0.03, 0.6), (0, 0.0)], 0.06, tint(c, 0.5))
    lobes = int(pen.rng.integers(3, 6))
    t = np.linspace(0, np.pi, 2 * lobes + 1)
    wide = np.where(np.arange(2 * lobes + 1) % 2, 1.0, 0.62) * np.sin(np.clip(t, 0.16, np.pi - 0.1)) * 0.62
    pen.poly(mirrored([*zip(wide, -np.cos(t) * 0.85)]), Paint(tint(c, 1.15), tint(c, 0.75), "leaf"))
    for y in np.linspace(-0.4, 0.5, 4):
        for s in (-1, 1):
            pen.line([(0, y), (s * 0.3, y - 0.2)], 0.025, tint(c, 0.5))


def _flag(pen: Pen) -> None:
    rng = pen.rng
    pen.line([(-0.8, -1.05), (-0.8, 1.1)], 0.09, (130, 100, 70))
    x, wave = np.linspace(-0.78, 0.9, 10), rng.uniform(0.05, 0.14)
    y = wave * np.sin(np.linspace(0, rng.uniform(4, 7), 10))
    for k in range(3):
        pen.poly([*zip(x, y - 0.95 + 0.32 * k), *zip(x[::-1], y[::-1] - 0.63 + 0.32 * k)], any_colour(rng))


_THINGS = (_anchor, _apple, _balloon, _banana, _bell, _camera, _candle, _clock, _crown, _drum, _flag,
           _glasses, _guitar, _hammer, _hat, _heart, _house, _icecream, _key, _kite, _ladder, _lamp, _leaf,
           _lighthouse, _mug, _mushroom, _rocket, _scissors, _shoe, _star, _tent, _tree, _umbrella,
           _windmill)

SOURCE_DRAWINGS: Mapping[str, Callable[[Pen], None]] = {
    draw.__name__.removeprefix("_"): draw for draw in (*_THINGS, *SOURCE_ANIMALS)
}
"""How to draw one object of each source class with a pen, in class order."""
