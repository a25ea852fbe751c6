"""Drawings of VOC's four-legged animals: cat, cow, dog, horse, sheep. They look to the right."""

# An outline reads better as rows of points than with a line for each.
# fmt: off
from collections.abc import Sequence

import numpy as np

from toyvoc.silhouettes.pen import Colour, Paint, Pen, hsv, smooth, tint, turn

BLACK, WHITE, PINK = np.array([30.0, 28, 28]), np.array([238.0, 236, 230]), np.array([224.0, 150, 150])


def coat(rng: np.random.Generator) -> np.ndarray:
    """A natural coat colour: brown, fawn, ginger, grey, black or white."""
    return hsv(*[(0.07, 0.6, rng.uniform(0.25, 0.5)),
                 (0.1, rng.uniform(0.25, 0.45), rng.uniform(0.6, 0.88)),
                 (0.065, rng.uniform(0.6, 0.8), rng.uniform(0.6, 0.85)),
                 (0.08, 0.1, rng.uniform(0.3, 0.65)), (0.07, 0.15, rng.uniform(0.12, 0.22)),
                 (0.12, 0.06, rng.uniform(0.8, 0.95))][rng.integers(6)])


def fur(rng: np.random.Generator, colour: Colour, *patterns: str) -> Paint:
    """``colour`` as plain fur or, half of the time, as one of ``patterns`` with a second coat colour."""
    if patterns and rng.random() < 0.5:
        return Paint(colour, coat(rng), str(rng.choice(patterns)))
    return Paint(tint(colour, 1.1), tint(colour, 0.8), str(rng.choice(["fur", "shade", "hair", "grain"])))


def eye(pen: Pen, x: float, y: float, size: float, iris: Colour = (50, 34, 24)) -> None:
    """A round eye with a highlight."""
    pen.ellipse(x, y, size, size, iris)
    pen.ellipse(x + size * 0.3, y - size * 0.35, size * 0.35, size * 0.35, WHITE)


def _legs(
    pen: Pen,
    paint: Paint,
    hind: tuple[float, float],
    fore: tuple[float, float],
    length: float,
    thick: float,
    hoof: Colour,
    swing: float,
) -> None:
    """Four legs, far ones first and darker; ``swing`` in degrees spreads the gait, hind legs have a hock."""
    rng = pen.rng
    dark = Paint(tint(paint.colour, 0.66), tint(paint.second, 0.66), paint.tile)
    for far in (True, False):
        for (x, y), is_hind in ((hind, True), (fore, False)):
            angle = rng.normal(0, swing) + (6 if far else -4)
            x += 0.1 if far else 0.0
            bend = abs(rng.normal(0, swing * 0.8))
            knee = -0.05 if is_hind else 0.015
            joints = [(0, 0), (0.03 if is_hind else 0, length * 0.42), (knee, length * 0.62),
                      (knee + 0.01, length)]
            joints = turn(joints, angle)
            joints[2:] = turn(joints[2:], bend, tuple(joints[1]))
            joints = np.add(joints, (x, y))
            pen.limb(joints, (thick * 2.1, thick * 1.35, thick * 0.95, thick * 0.85), dark if far else paint)
            foot = joints[-1]
            pen.limb([foot - (0.01, 0.03), np.add(foot, (0.03, 0.01))], (thick * 1.0, thick * 1.05), hoof)


def _cat_face(pen: Pen, x: float, y: float, r: float, colour: Colour, paint: Paint) -> None:
    rng = pen.rng
    iris = hsv(rng.uniform(0.11, 0.38), 0.7, 0.85)
    spread = rng.uniform(0.9, 1.1)
    with pen.frame(x, y, angle=rng.uniform(-12, 12), scale=r):
        for side in (-1, 1):
            pen.poly([(side * 0.98 * spread, -0.25), (side * 0.82 * spread, -1.32), (side * 0.15, -0.8)],
                     paint)
            pen.poly([(side * 0.82 * spread, -0.5), (side * 0.74 * spread, -1.08), (side * 0.34, -0.78)],
                     PINK * 0.9)
        pen.ellipse(0, 0, 1.06, 0.9, paint)
        if rng.random() < 0.6:
            for k in (-0.24, 0, 0.24):
                pen.line([(k, -0.82), (k * 0.7, -0.48)], 0.09, tint(colour, 0.5))
        for side in (-1, 1):
            pen.ellipse(side * 0.42, -0.12, 0.21, 0.19, iris)
            pen.ellipse(side * 0.42, -0.12, 0.075, 0.18, BLACK)
            pen.ellipse(side * 0.2, 0.4, 0.25, 0.2, tint(colour, 1.35))
        pen.poly([(-0.13, 0.18), (0.13, 0.18), (0, 0.34)], PINK)
        pen.curve([(-0.24, 0.52), (-0.08, 0.56), (0, 0.4), (0.08, 0.56), (0.24, 0.52)], 0.05,
                  tint(colour, 0.35))
        whiskers = [[(s * 0.35, 0.4 + k * 0.4),
                     (s * 1.45, 0.36 + k * 2)] for s in (-1, 1) for k in (-0.14, 0, 0.14)]
        pen.hair(whiskers, (250, 250, 250))


def cat(pen: Pen) -> None:
    """A cat sitting, walking, lying, or its head and shoulders: pointed ears, whiskers, slender tail."""
    rng = pen.rng
    colour = coat(rng)
    paint = fur(rng, colour, "tabby", "tabby", "patch")
    mode = rng.choice(4, p=[0.32, 0.3, 0.2, 0.18])
    light = tint(colour, 1.4)
    if mode == 0:  # sitting
        side = rng.choice([-1, 1])
        tail = smooth([(side * 0.3, 0.8), (side * 0.75, 0.85), (side * 0.9, 0.5), (side * 0.75, 0.2)],
                      closed=False)
        pen.limb(tail, np.linspace(0.16, 0.1, len(tail)), paint)
        pen.blob([(-0.25, -0.3), (-0.42, 0.15), (-0.56, 0.65), (-0.45, 0.9), (0.45, 0.9), (0.56, 0.65),
                  (0.42, 0.15), (0.25, -0.3)], paint)
        if rng.random() < 0.6:
            pen.ellipse(0, 0.12, 0.2, 0.3, light)
        for x in (-0.13, 0.13):
            pen.limb([(x, 0.2), (x, 0.84)], (0.2, 0.17), paint)
            pen.ellipse(x, 0.87, 0.13, 0.075, light)
        _cat_face(pen, 0, -0.48, 0.39, colour, paint)
    elif mode == 1:  # walking
        _legs(pen, paint, (-0.5, 0.0), (0.38, 0.02), 0.55, 0.1, light, 12)
        lift = rng.uniform(-0.8, -0.2)
        tail = smooth([(-0.55, -0.08), (-0.82, -0.1 + lift * 0.4), (-0.8, lift), (-1.0, lift - 0.18)],
                      closed=False)
        pen.limb(tail, np.linspace(0.13, 0.08, len(tail)), paint)
        pen.blob([(0.5, -0.2), (0.1, -0.19), (-0.4, -0.25), (-0.64, -0.08), (-0.56, 0.15), (-0.1, 0.18),
                  (0.3, 0.22), (0.55, 0.1)], paint)
        _cat_face(pen, 0.62, -0.34, 0.27, colour, paint)
    elif mode == 2:  # lying
        tail = smooth([(-0.7, 0.25), (-1.05, 0.3), (-1.0, 0.42), (-0.5, 0.42)], closed=False)
        pen.blob([(0.4, -0.22), (0.0, -0.32), (-0.5, -0.3), (-0.84, 0.0), (-0.82, 0.36), (-0.2, 0.42),
                  (0.5, 0.42), (0.72, 0.2)], paint)
        pen.limb(tail, np.linspace(0.15, 0.11, len(tail)), paint)
        pen.blob([(-0.7, 0.1), (-0.3, 0.0), (-0.15, 0.28), (-0.35, 0.42), (-0.75, 0.4)], paint)
        for y in (0.3, 0.38):
            pen.limb([(0.4, y), (0.86, y + 0.02)], (0.16, 0.13), tint(colour, 1.15))
        _cat_face(pen, 0.6, -0.2, 0.32, colour, paint)
    else:  # portrait
        pen.blob([(-0.4, 0.2), (-0.75, 0.75), (-0.8, 1.2), (0.8, 1.2), (0.75, 0.75), (0.4, 0.2)], paint)
        pen.ellipse(0, 0.9, 0.3, 0.3, light)
        _cat_face(pen, 0, -0.05, 0.62, colour, paint)


def cow(pen: Pen) -> None:
    """A cow with heavy body, short legs, horns, ears to the side, udder; looking round, ahead or grazing."""
    rng = pen.rng
    base = WHITE if rng.random() < 0.45 else coat(rng)
    second = coat(rng) if base is not WHITE else (BLACK if rng.random() < 0.6 else hsv(0.06, 0.7, 0.4))
    patched, plain = Paint(base, second, "patch"), Paint(tint(base, 1.1), tint(base, 0.75), "shade")
    paint = patched if rng.random() < 0.6 else plain
    skin = tint(second, 0.9) if paint.tile == "patch" and rng.random() < 0.6 else tint(base, 0.9)
    tail = [(-0.7, -0.18), (-0.82, 0.0), (-0.84, 0.4)]
    pen.curve(tail, 0.05, tint(base, 0.75))
    pen.ellipse(-0.84, 0.47, 0.06, 0.11, tint(second, 0.5))
    pen.ellipse(-0.34, 0.35, 0.16, 0.13, PINK)
    _legs(pen, paint, (-0.56, 0.12), (0.4, 0.14), rng.uniform(0.55, 0.68), 0.13, BLACK * 1.5, 7)
    pen.blob([(0.62, -0.28), (0.3, -0.3), (-0.2, -0.26), (-0.66, -0.3), (-0.78, -0.1), (-0.7, 0.22),
              (-0.35, 0.32), (0.1, 0.4), (0.5, 0.3), (0.7, 0.05)], paint)
    horn = hsv(0.11, 0.25, rng.uniform(0.55, 0.9))
    horned = rng.random() < 0.8
    grazing = rng.random() < 0.25
    frontal = not grazing and rng.random() < 0.5
    if frontal:
        pen.blob([(0.45, -0.32), (0.7, -0.42), (0.86, -0.2), (0.75, 0.15), (0.5, 0.1)], paint)
        with pen.frame(0.78, -0.34, angle=rng.uniform(-12, 12), scale=rng.uniform(0.95, 1.15)):
            for side in (-1, 1):
                if horned:
                    arc = smooth([(side * 0.12, -0.2), (side * 0.3, -0.26), (side * 0.34, -0.46)],
                                 closed=False)
                    pen.limb(arc, np.linspace(0.09, 0.03, len(arc)), horn)
                pen.ellipse(side * 0.31, -0.1, 0.15, 0.075, skin, angle=side * 18)
            pen.blob([(-0.17, -0.24), (0.17, -0.24), (0.22, -0.02), (0.15, 0.26), (-0.15, 0.26),
                      (-0.22, -0.02)], skin)
            if rng.random() < 0.5:
                pen.blob([(-0.06, -0.24), (0.06, -0.24), (0.05, 0.2), (-0.05, 0.2)], WHITE)
            pen.ellipse(0, 0.26, 0.2, 0.13, PINK * rng.uniform(0.5, 1.05))
            for side in (-1, 1):
                pen.ellipse(side * 0.08, 0.26, 0.035, 0.03, BLACK)
                eye(pen, side * 0.14, -0.04, 0.035)
        return
    with pen.frame(0.58, -0.12, angle=rng.uniform(50, 78) if grazing else rng.uniform(-22, 12)):
        pen.blob([(-0.15, -0.18), (0.2, -0.3), (0.36, -0.12), (0.25, 0.14), (-0.12, 0.26)], paint)
        with pen.frame(0.3, -0.2, angle=-8 if grazing else rng.uniform(12, 34)):
            if horned:
                arc = smooth([(0.0, -0.1), (0.1, -0.2), (0.06, -0.38)], closed=False)
                pen.limb(arc, np.linspace(0.09, 0.03, len(arc)), horn)
            pen.blob([(-0.12, -0.12), (0.08, -0.15), (0.4, -0.03), (0.52, 0.06), (0.48, 0.18), (0.2, 0.17),
                      (-0.1, 0.16)], skin)
            pen.ellipse(0.45, 0.08, 0.1, 0.11, PINK * rng.uniform(0.5, 1.05))
            pen.ellipse(0.49, 0.05, 0.025, 0.025, BLACK)
            pen.ellipse(-0.12, -0.06, 0.14, 0.065, tint(skin, 0.8), angle=25)
            eye(pen, 0.12, -0.04, 0.035)


def _dog_face(pen: Pen, x: float, y: float, r: float, colour: Colour, ear: Colour, pricked: bool) -> None:
    rng = pen.rng
    long = rng.uniform(0.9, 1.3)
    with pen.frame(x, y, angle=rng.uniform(-15, 15), scale=r):
        if pricked:
            for side in (-1, 1):
                pen.poly([(side * 0.78, -0.3), (side * 0.74, -1.45), (side * 0.12, -0.75)], ear)
        pen.blob([(-0.6, -0.7), (0, -0.86), (0.6, -0.7), (0.74, -0.1), (0.5, 0.5), (0.3, 0.95),
                  (-0.3, 0.95), (-0.5, 0.5), (-0.74, -0.1)], fur(rng, colour))
        if rng.random() < 0.5:
            pen.blob([(-0.12, -0.84), (0.12, -0.84), (0.16, 0.2), (-0.16, 0.2)], WHITE)
        if rng.random() < 0.65:
            pen.ellipse(0.06, 1.05, 0.17, 0.32, (226, 96, 110))
        pen.ellipse(0, 0.62, 0.42, 0.42, tint(colour, 1.3))
        pen.ellipse(0, 0.36, 0.2, 0.15, BLACK)
        pen.curve([(-0.3, 0.78), (-0.1, 0.84), (0, 0.62), (0.1, 0.84), (0.3, 0.78)], 0.06, BLACK)
        for side in (-1, 1):
            eye(pen, side * 0.34, -0.15, 0.12)
            if not pricked:
                pen.blob([(side * 0.5, -0.74), (side * 0.85, -0.6), (side * 1.08, long * 0.4),
                          (side * 0.86, long * 0.62), (side * 0.64, 0.1)], ear)


def dog(pen: Pen) -> None:
    """A dog standing, sitting, or its head and shoulders: muzzle with black nose, floppy or pricked ears."""
    rng = pen.rng
    colour = coat(rng)
    paint = fur(rng, colour, "patch", "speckle")
    ear = tint(colour, 0.55) if rng.random() < 0.6 else coat(rng) * 0.8
    collar, pricked, mode = (hsv(rng.random(), 0.85, 0.8), rng.random() < 0.3,
                             rng.choice(3, p=[0.5, 0.28, 0.22]))
    if mode == 2:
        pen.blob([(-0.36, 0.3), (-0.62, 0.8), (-0.68, 1.25), (0.68, 1.25), (0.62, 0.8), (0.36, 0.3)], paint)
        pen.limb([(-0.36, 0.72), (0, 0.8), (0.36, 0.72)], (0.1, 0.12, 0.1), collar)
        _dog_face(pen, 0, 0, 0.62, colour, ear, pricked)
        return
    if mode == 1:
        tail = smooth([(-0.45, 0.75), (-0.8, 0.74), (-1.0, 0.5)], closed=False)
        pen.limb(tail, np.linspace(0.13, 0.06, len(tail)), paint)
        pen.blob([(0.24, -0.4), (-0.1, -0.3), (-0.45, 0.2), (-0.58, 0.6), (-0.5, 0.88), (-0.05, 0.9),
                  (0.2, 0.5), (0.4, 0.1)], paint)
        pen.limb([(-0.25, 0.62), (0.0, 0.72), (-0.1, 0.88), (0.1, 0.9)], (0.3, 0.2, 0.13, 0.1), paint)
        for x in (0.2, 0.28):
            pen.limb([(x, 0.05), (x, 0.5), (x + 0.02, 0.86), (x + 0.12, 0.88)], (0.22, 0.15, 0.12, 0.11),
                     paint)
    else:
        leg = rng.uniform(0.38, 0.66)
        _legs(pen, paint, (-0.48, 0.0), (0.34, 0.04), leg, 0.1, tint(colour, 0.8), 13)
        lift, curl = rng.uniform(-0.6, -0.1), rng.uniform(-0.3, 0.15)
        tail = smooth([(-0.52, -0.1), (-0.76, -0.15 + lift * 0.3), (-0.88 - curl * 0.4, lift - 0.1)],
                      closed=False)
        pen.limb(tail, np.linspace(0.14, rng.uniform(0.04, 0.12), len(tail)), paint)
        pen.blob([(0.46, -0.24), (0.1, -0.2), (-0.4, -0.22), (-0.6, -0.05), (-0.5, 0.13), (-0.15, 0.1),
                  (0.22, 0.26), (0.48, 0.16)], paint)
        if rng.random() < 0.35:
            pen.limb([(0.3, 0.0), (0.5, -0.3)], (0.36, 0.24), paint)
            _dog_face(pen, 0.56, -0.42, 0.3, colour, ear, pricked)
            return
    neck = (0.38, -0.12) if mode == 0 else (0.14, -0.2)
    with pen.frame(*neck, angle=rng.uniform(-18, 22)):
        pen.limb([(-0.04, 0.08), (0.2, -0.36)], (0.36, 0.24), paint)
        pen.limb([(0.0, -0.16), (0.2, -0.06)], (0.06, 0.07), collar)
        with pen.frame(0.24, -0.42, angle=rng.uniform(-14, 16), scale=rng.uniform(0.9, 1.2)):
            muzzle = rng.uniform(0.28, 0.44)
            if rng.random() < 0.45:
                pen.limb([(0.2, 0.08), (0.26, 0.26)], (0.07, 0.09), (226, 96, 110))
            if pricked:
                pen.poly([(-0.14, -0.08), (-0.14, -0.42), (0.08, -0.14)], ear)
            pen.blob([(-0.18, -0.02), (-0.04, -0.19), (0.12, -0.15), (0.16, -0.06), (muzzle, -0.03),
                      (muzzle + 0.04, 0.06), (muzzle - 0.06, 0.12), (0.1, 0.16), (-0.1, 0.16)],
                     fur(rng, colour))
            pen.curve([(muzzle, 0.08), (0.2, 0.1), (0.1, 0.07)], 0.02, tint(colour, 0.3))
            pen.ellipse(muzzle + 0.01, -0.01, 0.055, 0.045, BLACK)
            eye(pen, 0.08, -0.07, 0.032)
            if not pricked:
                pen.blob([(-0.16, -0.12), (-0.02, -0.15), (0.02, 0.1), (-0.06, 0.28), (-0.18, 0.22),
                          (-0.22, 0.0)], ear)


def horse(pen: Pen) -> None:
    """A horse with long legs, arched neck, mane and flowing tail; galloping, grazing, its head."""
    rng = pen.rng
    colour = coat(rng)
    paint = fur(rng, colour, "patch") if rng.random() < 0.4 else fur(rng, colour)
    dark, pale = (tint(colour, 0.45), tint(colour, 0.25)), (WHITE, WHITE * 0.7)
    mane = Paint(*(dark if rng.random() < 0.7 else pale), "hair")
    grazing = rng.random() < 0.18
    if rng.random() < 0.16:
        _horse_neck(pen, (0, 0), 10, 0.0, colour, paint, mane, 2.0)
        return
    tail = rng.uniform(-0.15, 0.25)
    pen.blob([(-0.6, -0.2), (-0.8 - tail * 0.5, -0.1), (-0.95 - tail, 0.3 - tail),
              (-0.9 - tail, 0.75 - tail), (-0.78 - tail * 0.5, 0.4 - tail * 0.5), (-0.66, 0.0)], mane)
    _legs(pen, paint, (-0.5, 0.02), (0.34, 0.05), rng.uniform(0.85, 1.0), 0.105, tint(colour, 0.3),
          18 if rng.random() < 0.4 else 6)
    pen.blob([(0.34, -0.26), (0.0, -0.14), (-0.35, -0.22), (-0.62, -0.2), (-0.72, 0.02), (-0.56, 0.2),
              (-0.25, 0.2), (0.1, 0.3), (0.42, 0.26), (0.54, 0.02)], paint)
    angle = rng.uniform(88, 108) if grazing else rng.uniform(8, 36)
    _horse_neck(pen, (0.34, -0.06), angle, -62 if grazing else rng.uniform(-24, 8), colour, paint, mane, 1.0)
    pen.anchor("saddle", -0.02, -0.12)
    pen.anchor("grip", 0.4, -0.4)


def _horse_neck(
    pen: Pen,
    root: tuple[float, float],
    angle: float,
    nod: float,
    colour: Colour,
    paint: Paint,
    mane: Paint,
    scale: float,
) -> None:
    rng = pen.rng
    with pen.frame(*root, angle=angle, scale=scale):
        pen.blob([(-0.26, 0.02), (-0.2, -0.3), (-0.16, -0.62), (-0.02, -0.68), (0.14, -0.6), (0.1, -0.3),
                  (0.24, 0.12), (0.0, 0.22)], paint)
        pen.blob([(-0.02, -0.74), (-0.14, -0.7), (-0.24, -0.5), (-0.32, -0.1), (-0.22, -0.06), (-0.1, -0.4),
                  (0.0, -0.6)], mane)
        with pen.frame(-0.02, -0.58, angle=nod):
            for x in (0.02, -0.07):
                pen.poly([(x - 0.05, -0.08), (x - 0.01, -0.3), (x + 0.06, -0.08)], tint(colour, 0.8))
            pen.blob([(-0.12, 0.0), (-0.06, -0.12), (0.1, -0.12), (0.36, 0.02), (0.54, 0.12), (0.56, 0.22),
                      (0.46, 0.26), (0.22, 0.16), (0.02, 0.18), (-0.1, 0.12)], paint)
            if rng.random() < 0.5:
                pen.poly([(0.1, -0.1), (0.46, 0.07), (0.44, 0.1), (0.1, -0.04)], WHITE)
            pen.ellipse(0.5, 0.19, 0.06, 0.06, tint(colour, 0.5))
            pen.ellipse(0.52, 0.16, 0.02, 0.02, BLACK)
            eye(pen, 0.1, -0.02, 0.03)
            if rng.random() < 0.4:
                strap = hsv(rng.random(), 0.6, 0.4)
                pen.line([(0.3, -0.02), (0.27, 0.17)], 0.025, strap)
                pen.line([(0.0, -0.1), (0.28, 0.1)], 0.025, strap)


def sheep(pen: Pen) -> None:
    """A sheep: woolly body of curls, thin dark legs, narrow face with drooping ears; some with horns."""
    rng = pen.rng
    wool = hsv(rng.uniform(0.07, 0.13), rng.uniform(0.03, 0.25), rng.uniform(0.62, 0.97))
    if rng.random() < 0.15:
        wool = hsv(0.07, 0.35, rng.uniform(0.2, 0.4))
    fleece = Paint(tint(wool, 1.25), tint(wool, 0.68), "wool")
    skin = hsv(0.07, rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.35))
    if rng.random() < 0.35:
        skin = tint(wool, 0.85)
    leg = Paint(skin, tint(skin, 0.7), "shade")
    _legs(pen, leg, (-0.45, 0.2), (0.3, 0.2), rng.uniform(0.42, 0.58), 0.075, BLACK, 7)
    count, wide, high = int(rng.integers(13, 18)), rng.uniform(0.58, 0.68), rng.uniform(0.34, 0.42)
    angles = np.arange(count) * 2 * np.pi / count + rng.uniform(0, 1)
    rim = np.stack([wide * np.cos(angles) - 0.05, high * np.sin(angles)], axis=1)
    radii = [*rng.uniform(0.13, 0.17, count), 0.36, 0.4, 0.36]
    pen.puffs(np.vstack([rim, [(-0.3, 0), (0, 0), (0.2, 0)]]), radii, fleece)
    pen.puffs([(-0.74, -0.04), (-0.76, 0.08)], (0.09, 0.08), fleece)
    grazing, frontal = rng.random() < 0.25, rng.random() < 0.5
    x, y = (0.74, 0.34) if grazing else (0.68, rng.uniform(-0.4, -0.2))
    if not grazing:
        pen.puffs([(0.46, -0.1), (0.56, y + 0.12)], (0.28, 0.2), fleece)
    ram = rng.random() < 0.25
    with pen.frame(
        x, y, angle=70 if grazing and not frontal else rng.uniform(-10, 12), scale=rng.uniform(0.9, 1.15)
    ):
        if frontal:
            for side in (-1, 1):
                pen.blob([(side * 0.12, -0.12), (side * 0.3, -0.1), (side * 0.38, 0.02),
                          (side * 0.22, 0.02)], tint(skin, 0.8))
            pen.blob([(-0.15, -0.18), (0.15, -0.18), (0.16, 0.04), (0.08, 0.28), (-0.08, 0.28),
                      (-0.16, 0.04)], skin)
            for side in (-1, 1):
                eye(pen, side * 0.09, -0.02, 0.03, (200, 160, 80))
                pen.line([(side * 0.03, 0.2), (side * 0.06, 0.17)], 0.02, tint(PINK, 0.8))
            pen.puffs([(-0.1, -0.17), (0, -0.2), (0.1, -0.17)], 0.1, fleece)
            sides: Sequence[int] = (-1, 1)
        else:
            pen.blob([(-0.1, -0.14), (0.1, -0.14), (0.34, 0.06), (0.36, 0.16), (0.22, 0.2), (0.0, 0.16),
                      (-0.12, 0.05)], skin)
            eye(pen, 0.1, -0.02, 0.03, (200, 160, 80))
            pen.blob([(-0.1, -0.1), (-0.02, -0.06), (-0.12, 0.16), (-0.24, 0.12)], tint(skin, 0.75))
            pen.puffs([(-0.1, -0.14), (0.0, -0.17)], 0.1, fleece)
            sides = (0,)
        if ram:
            for side in sides:
                t = np.linspace(0, 4.6, 18)
                spiral = np.stack([(side or 1) * (0.14 - 0.022 * t) * np.cos(t),
                                   -(0.15 - 0.024 * t) * np.sin(t)], axis=1)
                pen.curve(np.add(spiral, (side * 0.24 - 0.08 * (side == 0), -0.06)), 0.06,
                          hsv(0.1, 0.35, 0.6))


ANIMALS = {"cat": cat, "cow": cow, "dog": dog, "horse": horse, "sheep": sheep}
