"""Drawings for the source task: animals and paints; see ``source`` for what the task is for."""

# An outline reads better as rows of points than with a line for each.
# fmt: off
import numpy as np

from toyvoc.silhouettes.pen import Paint, Pen, hsv, mirrored, smooth, tint

BLACK, WHITE = np.array([30.0, 30, 34]), np.array([238.0, 238, 232])


def any_colour(rng: np.random.Generator) -> np.ndarray:
    """Any colour, a quarter of them greys."""
    if rng.random() < 0.25:
        return hsv(rng.random(), 0.08, rng.uniform(0.2, 0.95))
    return hsv(rng.random(), rng.uniform(0.3, 0.95), rng.uniform(0.35, 0.95))


def any_paint(rng: np.random.Generator) -> Paint:
    """Any colour with any texture."""
    colour = any_colour(rng)
    tile = str(rng.choice(["shade", "shade", "sheen", "grain", "fur", "stripe", "dots", "wood", "plaid",
                           "blotch"]))
    second = tint(colour, 0.65) if rng.random() < 0.7 else any_colour(rng)
    return Paint(tint(colour, 1.1), second, tile)


def _fish(pen: Pen) -> None:
    rng = pen.rng
    fin = any_colour(rng)
    pen.poly([(-0.6, 0), (-1.1, -0.42), (-0.98, 0), (-1.1, 0.42)], fin)
    pen.poly([(-0.3, -0.3), (0.1, -0.62), (0.3, -0.3)], fin)
    pen.blob([(0.85, 0), (0.5, -0.34), (0, -0.42), (-0.7, 0), (0, 0.42), (0.5, 0.34)], any_paint(rng))
    pen.curve([(0.42, -0.28), (0.34, 0), (0.42, 0.28)], 0.04, tint(fin, 0.6))
    pen.ellipse(0.6, -0.08, 0.08, 0.08, WHITE)
    pen.ellipse(0.62, -0.08, 0.04, 0.04, BLACK)


def _elephant(pen: Pen) -> None:
    rng = pen.rng
    c = hsv(rng.uniform(0.05, 0.65), rng.uniform(0.03, 0.2), rng.uniform(0.35, 0.7))
    skin = Paint(tint(c, 1.1), tint(c, 0.75), "blotch")
    for x in (-0.62, -0.36, 0.12, 0.36):
        pen.limb([(x, 0.2), (x + rng.normal(0, 0.04), 0.85)], (0.3, 0.24),
                 tint(c, 0.8) if x in (-0.36, 0.36) else skin)
    pen.curve([(-0.85, -0.1), (-1.0, 0.1), (-0.96, 0.4)], 0.05, tint(c, 0.7))
    pen.blob([(0.4, -0.5), (-0.3, -0.6), (-0.85, -0.25), (-0.85, 0.3), (0, 0.42), (0.5, 0.3)], skin)
    pen.ellipse(0.65, -0.35, 0.34, 0.36, skin)
    trunk = smooth([(0.88, -0.3), (1.08, 0.1), (1.02, 0.55), (1.15 + rng.uniform(-0.2, 0.2), 0.7)],
                   closed=False)
    pen.limb(trunk, np.linspace(0.26, 0.1, len(trunk)), skin)
    pen.curve([(0.86, -0.02), (1.0, 0.2), (1.25, 0.15)], 0.07, WHITE)
    pen.blob([(0.6, -0.6), (0.25, -0.65), (0.1, -0.2), (0.3, 0.1), (0.55, -0.1)], tint(c, 0.85))
    pen.ellipse(0.8, -0.4, 0.04, 0.04, BLACK)


def _rabbit(pen: Pen) -> None:
    rng = pen.rng
    c = hsv(0.08, rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.95))
    skin = Paint(tint(c, 1.1), tint(c, 0.75), "fur")
    for s in (-1, 1):
        pen.ellipse(s * 0.16, -1.0, 0.11, 0.42, skin, angle=s * rng.uniform(0, 18))
        pen.ellipse(s * 0.16, -0.98, 0.05, 0.3, (226, 160, 160), angle=s * 8)
    pen.ellipse(0, 0.4, 0.5, 0.58, skin)
    pen.ellipse(0, 0.5, 0.28, 0.36, tint(c, 1.4))
    pen.ellipse(0, -0.38, 0.36, 0.34, skin)
    for s in (-1, 1):
        pen.ellipse(s * 0.26, 0.95, 0.22, 0.1, skin)
        pen.ellipse(s * 0.15, -0.44, 0.05, 0.06, BLACK)
    pen.rect(-0.06, -0.22, 0.06, -0.06, WHITE)
    pen.ellipse(0, -0.3, 0.06, 0.04, (200, 90, 100))


def _butterfly(pen: Pen) -> None:
    rng, c, d, spot = pen.rng, any_paint(pen.rng), any_paint(pen.rng), any_colour(pen.rng)
    for s in (-1, 1):
        pen.blob([(0, 0), (s * 0.5, -0.75), (s * 1.0, -0.7), (s * 0.85, -0.1), (s * 0.3, 0.1)], c)
        pen.blob([(0, 0.05), (s * 0.6, 0.1), (s * 0.75, 0.5), (s * 0.45, 0.75), (s * 0.12, 0.4)], d)
        pen.ellipse(s * 0.68, -0.45, 0.13, 0.13, spot)
        pen.curve([(0, -0.35), (s * 0.1, -0.6), (s * 0.25, -0.75)], 0.03, BLACK)
    pen.ellipse(0, 0.05, 0.08, rng.uniform(0.38, 0.5), BLACK)


def _snail(pen: Pen) -> None:
    c, shell = any_colour(pen.rng), any_paint(pen.rng)
    pen.blob([(-1.0, 0.55), (-0.4, 0.3), (0.5, 0.3), (0.75, -0.25), (1.0, -0.2), (0.95, 0.3), (0.7, 0.58)], c)
    for x in (0.82, 0.98):
        pen.line([(x, -0.2), (x + 0.1, -0.55)], 0.05, c)
        pen.ellipse(x + 0.1, -0.58, 0.05, 0.05, BLACK)
    pen.ellipse(-0.1, -0.05, 0.58, 0.52, shell)
    t = np.linspace(0, 4 * np.pi, 40)
    r = 0.48 * (1 - t / 14)
    pen.line(np.stack([-0.1 + r * np.cos(t), -0.05 + 0.9 * r * np.sin(t)], axis=1), 0.06,
             tint(shell.colour, 0.45))


def _octopus(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    for k, x in enumerate(np.linspace(-0.5, 0.5, 6)):
        tip = x * 2.0 + rng.normal(0, 0.1)
        path = smooth([(x * 0.8, 0.05), (x * 1.5, 0.45), (tip, 0.75),
                       (tip + (0.16 if k % 2 else -0.16), 0.9)], closed=False)
        pen.limb(path, np.linspace(0.2, 0.07, len(path)), tint(c.colour, 0.8 + 0.2 * (k % 2)))
    pen.blob(mirrored([(0.1, -0.95), (0.48, -0.7), (0.52, -0.25), (0.36, 0.2)]), c)
    for s in (-1, 1):
        pen.ellipse(s * 0.18, -0.15, 0.11, 0.13, WHITE)
        pen.ellipse(s * 0.18, -0.12, 0.05, 0.07, BLACK)


def _crab(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    shade = tint(c.colour, 0.8)
    for s in (-1, 1):
        for k in range(3):
            pen.line([(s * 0.4, 0.15 + 0.1 * k), (s * (0.85 - 0.1 * k), 0.1 + 0.2 * k),
                      (s * (0.95 - 0.15 * k), 0.4 + 0.16 * k)], 0.08, shade)
        pen.line([(s * 0.4, -0.1), (s * 0.78, -0.35)], 0.12, shade)
        pen.ellipse(s * 0.82, -0.58, 0.24, 0.2, c)
        pen.poly([(s * 0.82, -0.58), (s * 0.72, -0.9), (s * 0.98, -0.9)], tint(c.colour, 0.5))
        pen.line([(s * 0.16, -0.2), (s * 0.18, -0.45)], 0.05, shade)
        pen.ellipse(s * 0.18, -0.48, 0.07, 0.07, BLACK)
    pen.ellipse(0, 0.1, 0.58, rng.uniform(0.34, 0.42), c)


def _snake(pen: Pen) -> None:
    rng, c = pen.rng, any_paint(pen.rng)
    x = np.linspace(-1, 0.85, 40)
    path = np.stack([x, 0.34 * np.sin(4.6 * x + rng.uniform(0, 6))], axis=1)
    pen.limb(path, np.linspace(0.06, 0.24, 40), c)
    pen.ellipse(*(path[-1] + (0.06, 0)), 0.2, 0.14, tint(c.colour, 0.9))
    pen.ellipse(*(path[-1] + (0.1, -0.05)), 0.03, 0.03, BLACK)
    pen.line([path[-1] + (0.24, 0), path[-1] + (0.42, 0.03)], 0.03, (210, 40, 50))


def _turtle(pen: Pen) -> None:
    rng = pen.rng
    c = hsv(rng.uniform(0.12, 0.42), 0.5, rng.uniform(0.4, 0.8))
    for x in (-0.5, 0.45):
        pen.limb([(x, 0.25), (x + rng.uniform(-0.12, 0.12), 0.6)], (0.26, 0.22), c)
    pen.limb([(0.6, 0.15), (0.95, -0.12)], (0.24, 0.28), c)
    pen.ellipse(1.02, -0.17, 0.04, 0.04, BLACK)
    pen.poly([(-0.7, 0.2), (-1.0, 0.34), (-0.65, 0.34)], c)
    pen.blob([(-0.82, 0.3), (-0.6, -0.3), (0, -0.58), (0.6, -0.3), (0.82, 0.3)],
             Paint(any_colour(rng), any_colour(rng), "check"))


SOURCE_ANIMALS = (_butterfly, _crab, _elephant, _fish, _octopus, _rabbit, _snail, _snake, _turtle)
