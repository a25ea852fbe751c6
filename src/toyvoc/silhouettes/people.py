"""Drawings of people: standing, walking, running, waving, sitting, riding, or head and shoulders."""

# An outline reads better as rows of points than with a line for each.
# fmt: off
from dataclasses import dataclass

import numpy as np

from toyvoc.silhouettes.pen import Colour, Paint, Pen, hsv, tint

_FABRICS = ("shade", "shade", "grain", "band", "plaid", "stripe", "check", "dots", "diagonal", "weave")


@dataclass(frozen=True)
class _Look:
    skin: np.ndarray
    hair: np.ndarray
    shirt: Paint
    legs: Paint
    shoes: np.ndarray
    long_sleeves: bool
    long_legs: bool
    skirt: bool
    style: int  # 0 short hair, 1 long hair, 2 bald, 3 cap, 4 helmet or woollen hat, 5 bun


def _cloth(rng: np.random.Generator, patterned: bool) -> Paint:
    colour = hsv(rng.random(), rng.uniform(0.05, 0.9), rng.uniform(0.15, 0.95))
    tile = str(rng.choice(_FABRICS)) if patterned else str(rng.choice(["shade", "grain", "weave"]))
    if tile in ("shade", "grain", "weave"):
        return Paint(tint(colour, 1.15), tint(colour, 0.72), tile)
    return Paint(colour, hsv(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.1, 0.98)), tile)


def _look(rng: np.random.Generator) -> _Look:
    return _Look(skin=hsv(rng.uniform(0.04, 0.075), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.97)),
                 hair=hsv(rng.uniform(0.03, 0.13), rng.uniform(0.0, 0.7), rng.uniform(0.06, 0.75)),
                 shirt=_cloth(rng, True), legs=_cloth(rng, False),
                 shoes=hsv(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.1, 0.9)),
                 long_sleeves=rng.random() < 0.5, long_legs=rng.random() < 0.7, skirt=rng.random() < 0.22,
                 style=int(rng.choice(6, p=[0.34, 0.24, 0.08, 0.14, 0.1, 0.1])))


def _head(pen: Pen, look: _Look, x: float, y: float, r: float, side: bool, angle: float) -> None:
    """A head of radius ``r`` around (x, y), from the front or looking to the right."""
    rng, skin, hair = pen.rng, look.skin, look.hair
    dark = tint(skin, 0.45)
    with pen.frame(x, y, angle=angle, scale=r):
        if look.style == 1:
            back = [(-0.9, -0.5), (-0.2, -1.2), (0.8, -0.7), (1.0, 0.6), (0.8, 1.6), (-0.9, 1.6), (-1.1, 0.6)]
            pen.blob([(px - 0.35, py) for px, py in back] if side else back, hair)
        if look.style == 5:
            pen.ellipse(-0.9 if side else 0.0, -1.1, 0.45, 0.45, hair)
        if side:
            pen.blob([(-0.85, -0.4), (-0.2, -1.1), (0.6, -0.9), (0.84, -0.3), (1.12, 0.15), (0.86, 0.28),
                      (0.84, 0.7), (0.45, 1.08), (-0.3, 0.9), (-0.8, 0.4)], skin)
            pen.ellipse(0.55, -0.1, 0.12, 0.14, dark)
            pen.line([(0.6, 0.58), (0.84, 0.55)], 0.12, (170, 70, 70))
            pen.ellipse(-0.12, 0.12, 0.2, 0.26, tint(skin, 0.85))
        else:
            for s in (-1, 1):
                pen.ellipse(s * 0.9, 0.1, 0.16, 0.25, tint(skin, 0.88))
            pen.ellipse(0, 0.02, 0.88, 1.1, skin)
            for s in (-1, 1):
                pen.ellipse(s * 0.36, -0.05, 0.2, 0.13, (245, 245, 242))
                pen.ellipse(s * 0.36, -0.05, 0.11, 0.12, dark * 0.6)
                pen.line([(s * 0.18, -0.3), (s * 0.54, -0.33)], 0.1, tint(hair, 0.8))
            pen.line([(0, 0.0), (0.1, 0.3), (-0.05, 0.33)], 0.08, tint(skin, 0.72))
            pen.curve([(-0.32, 0.56), (0, 0.66), (0.32, 0.54)], 0.13, (176, 70, 72))
        if look.style in (0, 1, 5):
            fringe = rng.uniform(-0.55, -0.3)
            if side:
                pen.blob([(0.75, -0.55), (0.3, -1.2), (-0.4, -1.2), (-1.0, -0.6), (-0.95, 0.35),
                          (-0.5, 0.5), (-0.35, -0.2), (0.2, fringe)], hair)
            else:
                pen.blob([(-0.95, 0.0), (-0.98, -0.7), (-0.4, -1.25), (0.4, -1.25), (0.98, -0.7),
                          (0.95, 0.0), (0.72, -0.35), (0.2, fringe - 0.1), (-0.6, fringe)], hair)
        elif look.style >= 3:
            hat = look.shirt.second if look.style == 3 else look.shoes
            pen.blob([(-0.98, -0.32), (-0.92, -0.9), (-0.3, -1.32), (0.4, -1.3), (0.95, -0.8),
                      (0.98, -0.32)], hat)
            if look.style == 3:
                pen.limb([(0.1, -0.36), (1.45 if side else 0.75, -0.3)], (0.26, 0.2), tint(hat, 0.75))
                if not side:
                    pen.limb([(-0.75, -0.3), (0.1, -0.36)], (0.2, 0.26), tint(hat, 0.75))


def _two_bones(start: np.ndarray, first: float, a: float, second: float, b: float) -> np.ndarray:
    """Start, middle and end joint; angles from straight down, positive to the right, in degrees."""
    bones = np.deg2rad([a, b])
    middle = start + first * np.array([np.sin(bones[0]), np.cos(bones[0])])
    return np.stack([start, middle, middle + second * np.array([np.sin(bones[1]), np.cos(bones[1])])])


def _leg(pen: Pen, look: _Look, joints: np.ndarray, toe: float, dim: float, bulk: float) -> None:
    cloth = Paint(tint(look.legs.colour, dim), tint(look.legs.second, dim), look.legs.tile)
    skin = tint(look.skin, dim)
    foot = joints[2]
    bare = look.skirt or not look.long_legs
    pen.limb(joints, (0.19 * bulk, 0.14 * bulk, 0.1 * bulk), skin if bare else cloth)
    if not look.skirt and bare:
        pen.limb(joints[:2] * np.array([[1.0], [0.85]]) + np.array([[0.0], [0.15]]) * joints[0],
                 (0.2, 0.18), cloth)
    pen.limb([foot, np.add(foot, (toe, 0.03))], (0.1, 0.085), tint(look.shoes, dim))


def _arm(pen: Pen, look: _Look, joints: np.ndarray, dim: float, bulk: float) -> None:
    sleeve = Paint(tint(look.shirt.colour, dim), tint(look.shirt.second, dim), look.shirt.tile)
    skin = tint(look.skin, dim)
    pen.limb(joints, (0.13 * bulk, 0.1 * bulk, 0.075), sleeve if look.long_sleeves else skin)
    if not look.long_sleeves:
        pen.limb([joints[0], joints[0] * 0.45 + joints[1] * 0.55], (0.15 * bulk, 0.14 * bulk), sleeve)
    x, y = joints[2]
    pen.ellipse(x, y, 0.06, 0.06, skin)


# Mean and spread of nine angles in degrees, positive to the right: lean of the trunk; thighs from straight
# down, left or far one first; shins from their thighs; upper arms from straight down; forearms from these.
_POSES = {"stand": ((0, -6, 6, 3, -3, -16, 16, 8, -8), (3, 3, 3, 2, 2, 8, 8, 22, 22)),
          "walk": ((4, -20, 24, -14, -16, 26, -24, 20, 20), (3, 6, 6, 5, 5, 8, 8, 10, 8)),
          "run": ((14, -32, 58, -56, -54, 52, -46, 76, 76), (4, 8, 8, 12, 10, 10, 10, 12, 12)),
          "cheer": ((0, -16, 16, 8, -8, -130, 130, -35, 35), (4, 6, 6, 4, 4, 18, 18, 16, 16)),
          "sit": ((-6, 80, 86, -74, -90, 26, 14, 44, 52), (5, 5, 5, 8, 8, 12, 12, 14, 14)),
          "squat_front": ((0, -42, 42, 38, -38, -24, 24, 20, -20), (3, 4, 4, 4, 4, 6, 6, 10, 10)),
          "ride": ((22, 52, 68, -58, -60, 52, 56, 14, 14), (6, 5, 5, 6, 6, 5, 5, 6, 6))}
_THIGH, _SHIN, _UPPER, _FORE, _TORSO = 0.43, 0.42, 0.29, 0.27, 0.55


def person(pen: Pen) -> None:
    """A person in a random pose; about a quarter are head-and-shoulders portraits."""
    pose = str(pen.rng.choice(["stand", "walk", "run", "cheer", "sit", "squat_front", "bust"],
                              p=[0.24, 0.19, 0.11, 0.1, 0.08, 0.07, 0.21]))
    draw_person(pen, pose)


def draw_person(pen: Pen, pose: str) -> None:
    """A person as ``stand``, ``walk``, ``run``, ``cheer``, ``sit``, ``squat_front``, ``ride`` or ``bust``.

    One unit is about a metre. The hip is at the origin and is the anchor ``seat``.
    """
    rng = pen.rng
    look = _look(rng)
    pen.anchor("seat", 0.0, 0.02)
    if pose == "bust":
        _bust(pen, look)
        return
    side = pose in ("walk", "run", "sit", "ride")
    bulk = rng.uniform(0.9, 1.25)
    half = 0.07 if side else rng.uniform(0.15, 0.19) * bulk
    mean, spread = _POSES[pose]
    angles = np.asarray(mean) + np.asarray(spread) * rng.normal(size=9)
    lean, thighs, uppers = angles[0], angles[1:3], angles[5:7]
    shins, fores = thighs + angles[3:5], uppers + angles[7:9]
    tilt = np.deg2rad(lean)
    spine = np.array([np.sin(tilt), -np.cos(tilt)])
    across = np.array([np.cos(tilt), np.sin(tilt)])
    neck = spine * _TORSO
    thigh = _THIGH * (0.55 if pose == "squat_front" else 1.0)  # foreshortened towards the viewer
    hips = [across * (-half * 0.55), across * (half * 0.55)]
    shoulders = [neck - across * half * 1.1 + spine * -0.05, neck + across * half * 1.1 + spine * -0.05]
    toes = (0.12, 0.12) if side else (-0.06, 0.06)
    if pose == "ride" and rng.random() < 0.3:
        look = _Look(**{**vars(look), "style": 4})

    def arm(k: int, dim: float) -> None:
        _arm(pen, look, _two_bones(shoulders[k], _UPPER, uppers[k], _FORE, fores[k]), dim, bulk)

    def leg(k: int, dim: float) -> None:
        _leg(pen, look, _two_bones(hips[k], thigh, thighs[k], _SHIN, shins[k]), toes[k], dim, bulk)

    far = 0.7 if side else 1.0
    if side:
        arm(0, far)
    leg(0, far)
    leg(1, 1.0)
    if look.skirt and not (side and pose != "walk"):
        hem = 0.3 if pose != "squat_front" else 0.2
        pen.poly([(-half * 1.0, -0.06), (half * 1.0, -0.06), (half * 1.0 + 0.15, hem),
                  (-half * 1.0 - 0.15, hem)], look.legs)
    if look.style == 1 and not side:
        x, y = neck + spine * 0.18
        _head(pen, look, x, y, 0.13, side, lean * 0.4)
    pen.limb([neck - spine * 0.02, neck + spine * 0.1], (0.1, 0.09), tint(look.skin, 0.85))
    broad = half * 1.15 + (0.05 if side else 0.03)
    waist = half * 0.95 + (0.05 if side else 0.0)
    outline = [-across * waist + spine * -0.04, across * waist + spine * -0.04,
               across * waist * 0.95 + spine * 0.2, across * broad + spine * (_TORSO - 0.1),
               across * broad * 0.6 + spine * (_TORSO + 0.02),
               -across * broad * 0.6 + spine * (_TORSO + 0.02), -across * broad + spine * (_TORSO - 0.1),
               -across * waist * 0.95 + spine * 0.2]
    pen.blob(outline, look.shirt)
    if not (look.style == 1 and not side):
        x, y = neck + spine * 0.18 + across * 0.02 * side
        _head(pen, look, x, y, 0.13, side, lean * 0.4 + rng.normal(0, 5))
    if not side:
        arm(0, 1.0)
    arm(1, 1.0)


def _bust(pen: Pen, look: _Look) -> None:
    rng = pen.rng
    side = rng.random() < 0.3
    wide = rng.uniform(0.36, 0.46)
    low = rng.uniform(0.25, 0.6)
    pen.blob([(-0.1, -0.28), (-wide * 0.8, -0.2), (-wide - 0.02, 0.05), (-wide - 0.06, low),
              (wide + 0.06, low), (wide + 0.02, 0.05), (wide * 0.8, -0.2), (0.1, -0.28)], look.shirt)
    if rng.random() < 0.5:
        pen.poly([(-0.12, -0.27), (0.12, -0.27), (0.0, -0.02)], tint(look.skin, 0.9))
    for s in (-1, 1):
        pen.line([(s * (wide - 0.1), low), (s * (wide - 0.08), 0.1)], 0.012, _dark(look.shirt.colour))
    pen.limb([(0, -0.2), (0, -0.42)], (0.2, 0.17), tint(look.skin, 0.85))
    _head(pen, look, 0.0, -0.55, 0.23, side, rng.normal(0, 8))


def _dark(colour: Colour) -> np.ndarray:
    return tint(colour, 0.5)


PEOPLE = {"person": person}
