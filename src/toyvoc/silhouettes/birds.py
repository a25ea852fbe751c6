"""Drawings of VOC's birds. They look to the right."""

# An outline reads better as rows of points than with a line for each.
# fmt: off
import numpy as np

from toyvoc.silhouettes.animals import coat, eye, fur
from toyvoc.silhouettes.pen import Colour, Paint, Pen, hsv, smooth, tint


def bird(pen: Pen) -> None:
    """A perching song bird, a bird in flight with one wing or both wings up, or a wader."""
    rng = pen.rng
    draw = rng.choice([_bird_perched, _bird_flying, _bird_wader], p=[0.45, 0.35, 0.2])
    colour = coat(rng)
    if rng.random() < 0.6:
        colour = hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.25, 0.95))
    beak = hsv(rng.uniform(0.03, 0.14), rng.uniform(0.3, 0.95), rng.uniform(0.3, 0.95))
    draw(pen, colour, beak)


def _bird_perched(pen: Pen, colour: Colour, beak: Colour) -> None:
    rng = pen.rng
    wing = Paint(tint(colour, 0.75), tint(colour, 0.45), str(rng.choice(["tabby", "shade", "fur"])))
    breast = tint(coat(rng), 1.2) if rng.random() < 0.6 else tint(colour, 1.3)
    drop = rng.uniform(-0.1, 0.35)
    for x in (-0.02, 0.12):
        pen.line([(x, 0.38), (x + 0.02, 0.7), (x + 0.14, 0.72)], 0.035, tint(beak, 0.7))
        pen.line([(x + 0.02, 0.7), (x - 0.06, 0.73)], 0.03, tint(beak, 0.7))
    pen.poly([(-0.35, 0.12), (-1.05, 0.2 + drop), (-1.08, 0.36 + drop), (-0.3, 0.36)], tint(colour, 0.55))
    pen.blob([(0.4, -0.42), (0.5, -0.1), (0.46, 0.2), (0.2, 0.44), (-0.15, 0.44), (-0.5, 0.28),
              (-0.45, 0.05), (-0.1, -0.2), (0.1, -0.45)], fur(rng, colour, "speckle"))
    pen.blob([(0.44, -0.16), (0.46, 0.1), (0.3, 0.36), (0.0, 0.43), (0.15, 0.1)], breast)
    with pen.frame(0.28, -0.45, angle=rng.uniform(-20, 20)):
        pen.poly([(0.16, -0.1), (0.16, 0.1), (0.16 + rng.uniform(0.16, 0.34), 0.03)], beak)
        if rng.random() < 0.3:
            pen.poly([(-0.1, -0.16), (-0.2, -0.44), (0.1, -0.18)], tint(colour, 0.7))
        pen.ellipse(0, 0, 0.23, 0.22, fur(rng, colour))
        eye(pen, 0.1, -0.04, 0.045)
    pen.blob([(0.2, -0.1), (0.22, 0.1), (-0.1, 0.28), (-0.72, 0.33), (-0.45, 0.05), (-0.1, -0.14)], wing)
    for k in range(3):
        pen.line([(0.06 - 0.1 * k, 0.06 + 0.05 * k), (-0.4 - 0.06 * k, 0.22 + 0.03 * k)], 0.018,
                 tint(colour, 0.35))


def _feathered(
    root: tuple[float, float], tip: tuple[float, float], chord: float, count: int = 6
) -> np.ndarray:
    """A wing from ``root`` to ``tip`` whose trailing edge is cut into ``count`` feathers."""
    root, tip = np.array(root), np.array(tip)
    along = tip - root
    back = np.array([-abs(along[1]) * 0.25 - 0.8, 0.35])
    back /= np.linalg.norm(back)
    lead = [np.add(root, (0.16, 0)), root + along * 0.45 + (0.16, 0.0), root + along * 0.85 + (0.07, 0), tip]
    trail = []
    for t in np.linspace(0.95, 0.0, count):
        width = chord * (1.1 - 0.55 * t)
        trail += [root + along * t + back * width, root + along * max(t - 0.09, 0) + back * width * 0.72]
    return np.array([*lead, *trail])


def _bird_flying(pen: Pen, colour: Colour, beak: Colour) -> None:
    rng = pen.rng
    tip = tint(colour, 0.4) if rng.random() < 0.5 else colour
    far = (rng.uniform(-0.1, 0.45), -rng.uniform(0.6, 1.0))
    below = rng.random() < 0.4
    near = (rng.uniform(-0.6, -0.1), rng.uniform(0.65, 1.0) * (1 if below else -1))
    chord = rng.uniform(0.3, 0.5)
    pen.poly(_feathered((0.1, -0.05), far, chord), Paint(tint(colour, 0.8), tint(tip, 0.7), "shade"))
    pen.poly([(-0.35, -0.06), (-0.85, -0.12), (-0.78, 0.0), (-0.88, 0.1), (-0.35, 0.08)], tint(colour, 0.6))
    pen.blob([(0.58, -0.14), (0.35, -0.18), (-0.1, -0.16), (-0.55, -0.03), (-0.5, 0.06), (0.0, 0.17),
              (0.4, 0.12), (0.6, 0.0)], fur(rng, colour))
    pen.poly([(0.7, -0.14), (0.7 + rng.uniform(0.12, 0.28), -0.04), (0.69, -0.01)], beak)
    pen.ellipse(0.6, -0.1, 0.15, 0.13, tint(colour, 1.1))
    eye(pen, 0.65, -0.13, 0.03)
    shades = (colour, tip) if below else (tip, tint(colour, 0.85))
    pen.poly(_feathered((0.02, 0.0), near, chord * 1.1), Paint(*shades, "shade"))


def _bird_wader(pen: Pen, colour: Colour, beak: Colour) -> None:
    rng = pen.rng
    legs, neck = rng.uniform(0.45, 0.9), rng.uniform(0.35, 0.8)
    for x in (-0.05, 0.07):
        pen.line([(x, 0.2), (x + 0.02, 0.2 + legs * 0.5), (x - 0.03, 0.2 + legs), (x + 0.12, 0.22 + legs)],
                 0.035, beak)
    body = fur(rng, colour)
    pen.poly([(-0.4, -0.08), (-0.82, 0.12), (-0.5, 0.2)], tint(colour, 0.5))
    pen.blob([(0.34, -0.14), (0.0, -0.24), (-0.45, -0.08), (-0.55, 0.1), (-0.2, 0.26), (0.25, 0.2),
              (0.42, 0.0)], body)
    path = smooth([(0.28, -0.02), (0.46, -0.25), (0.3, -0.2 - neck * 0.55), (0.4, -0.2 - neck)], closed=False)
    pen.limb(path, np.linspace(0.2, 0.1, len(path)), body)
    pen.poly([(0.48, -0.28 - neck), (0.48 + rng.uniform(0.25, 0.5), -0.16 - neck), (0.46, -0.18 - neck)],
             beak)
    pen.ellipse(0.42, -0.22 - neck, 0.12, 0.09, tint(colour, 1.05))
    eye(pen, 0.46, -0.24 - neck, 0.025)
    pen.blob([(0.18, -0.1), (0.15, 0.08), (-0.2, 0.14), (-0.7, 0.16), (-0.35, -0.08)], tint(colour, 0.65))


BIRDS = {"bird": bird}
