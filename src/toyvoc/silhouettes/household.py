"""Drawings of VOC's household objects: bottle, chair, dining table, potted plant, sofa, TV or monitor."""

# An outline reads better as rows of points than with a line for each.
# fmt: off
from itertools import pairwise

import numpy as np

from toyvoc.silhouettes.pen import Colour, Paint, Pen, hsv, smooth, tint, turn

BLACK, WHITE = np.array([28.0, 28, 32]), np.array([238.0, 238, 234])


def wood(rng: np.random.Generator) -> Paint:
    """A wooden surface, light or dark, now and then painted."""
    if rng.random() < 0.3:
        colour = hsv(rng.random(), rng.uniform(0.0, 0.7), rng.uniform(0.2, 0.95))
        return Paint(tint(colour, 1.1), tint(colour, 0.8), "shade")
    colour = hsv(rng.uniform(0.055, 0.1), rng.uniform(0.4, 0.75), rng.uniform(0.3, 0.8))
    return Paint(tint(colour, 1.12), tint(colour, 0.7), "wood")


def fabric(rng: np.random.Generator) -> Paint:
    """Upholstery or cloth: plain, woven or patterned."""
    colour = hsv(rng.random(), rng.uniform(0.05, 0.75), rng.uniform(0.22, 0.9))
    tile = str(rng.choice(["shade", "weave", "grain", "plaid", "stripe", "dots", "blotch", "check"]))
    if tile in ("shade", "weave", "grain"):
        return Paint(tint(colour, 1.12), tint(colour, 0.75), tile)
    return Paint(colour, hsv(rng.random(), rng.uniform(0.05, 0.6), rng.uniform(0.2, 0.95)), tile)


def bottle(pen: Pen) -> None:
    """A bottle of glass, slender or bulky, straight or waisted: neck, cap, label, liquid."""
    rng = pen.rng
    body = hsv(rng.choice([0.3, 0.08, 0.55, rng.random()]), rng.uniform(0.15, 0.85), rng.uniform(0.2, 0.85))
    wide, neck = rng.uniform(0.24, 0.34), rng.uniform(0.075, 0.12)
    shoulder, top = rng.uniform(-0.5, -0.15), rng.uniform(-1.15, -0.85)
    waist = rng.uniform(0.78, 1.0) if rng.random() < 0.4 else 1.0
    profile = [(wide * 0.94, 0.9), (wide, 0.8), (wide * waist, 0.25), (wide, shoulder + 0.12),
               (wide * 0.82, shoulder - 0.04), (neck * 1.1, shoulder - 0.28), (neck, shoulder - 0.42),
               (neck, top)]
    right = smooth(profile, closed=False)
    outline = np.vstack([right, (right * (-1, 1))[::-1]])
    pen.poly(outline, Paint(tint(body, 0.55), tint(body, 1.35), "sheen"))
    if rng.random() < 0.5:  # the liquid below its surface
        level = rng.uniform(shoulder, 0.3)
        low = right[right[:, 1] > level]
        if len(low) > 2:
            pen.poly(np.vstack([low * (0.9, 0.985), (low * (-0.9, 0.985))[::-1]]),
                     hsv(rng.uniform(0, 0.16), rng.uniform(0.4, 0.9), rng.uniform(0.25, 0.85)))
    if rng.random() < 0.8:
        a, b = shoulder + rng.uniform(0.2, 0.3), rng.uniform(0.45, 0.68)
        label = hsv(rng.random(), rng.uniform(0, 0.9), rng.uniform(0.6, 0.97))
        pen.rect(-wide * 0.97 * waist, a, wide * 0.97 * waist, b, label)
        mark = hsv(rng.random(), 0.8, rng.uniform(0.2, 0.8))
        if rng.random() < 0.5:
            pen.ellipse(0, (a + b) / 2, wide * 0.5, (b - a) * 0.28, mark)
        else:
            for t in (0.25, 0.5, 0.72):
                pen.line([(-wide * 0.6, a + t * (b - a)), (wide * 0.6, a + t * (b - a))], 0.05, mark)
    cap = hsv(rng.random(), rng.uniform(0.0, 0.9), rng.uniform(0.2, 0.95))
    pen.rect(-neck * 1.25, top - 0.12, neck * 1.25, top + rng.uniform(0.0, 0.12), cap)
    pen.line([(-wide * 0.62, shoulder + 0.1), (-wide * 0.62, 0.75)], 0.035, tint(body, 1.7))
    pen.line([(-neck * 0.4, top + 0.2), (-neck * 0.4, shoulder - 0.35)], 0.025, tint(body, 1.6))
    pen.anchor("foot", 0, 0.9)


def chair(pen: Pen) -> None:
    """A wooden chair with slats, an upholstered dining chair, or an office chair on castors."""
    rng = pen.rng
    if rng.random() < 0.25:
        _office_chair(pen)
        return
    timber = wood(rng)
    dark, frame = tint(timber.colour, 0.6), tint(timber.colour, 0.9)
    seat = fabric(rng) if rng.random() < 0.5 else Paint(tint(timber.colour, 1.15), timber.colour, timber.tile)
    thick, back = rng.uniform(0.07, 0.1), rng.uniform(0.75, 1.1)
    slant, depth = rng.uniform(0.05, 0.2), rng.uniform(0.2, 0.36)
    # Seat corners: front left and right, back right and left. The back rest stands on the rear edge.
    fl, fr, br, bl = ((-0.5, 0.12), (0.4, 0.12), (0.4 + depth * 0.7, -depth * 0.5),
                      (-0.5 + depth * 0.7, -depth * 0.5))
    for x, y in (br, bl):
        pen.limb([(x, y), (x + 0.04, 0.72)], (thick, thick * 0.8), dark)
    top_l, top_r = (bl[0] - slant * 0.2, bl[1] - back), (br[0] + slant * 0.5, br[1] - back)
    style = rng.integers(3)
    if style == 2:
        cushion = [bl, br, (top_r[0], top_r[1] + 0.05), (top_r[0] - 0.1, top_r[1]),
                   (top_l[0] + 0.1, top_l[1]), (top_l[0], top_l[1] + 0.05)]
        pen.poly(cushion, seat)
    else:
        for p, q in ((bl, top_l), (br, top_r)):
            pen.limb([p, q], (thick * 1.05, thick), frame)
        if style == 0:
            for t in np.linspace(0.16, 0.84, rng.integers(3, 6)):
                p, q = (np.array(bl) * (1 - t) + np.array(br) * t,
                        np.array(top_l) * (1 - t) + np.array(top_r) * t)
                pen.line([p, q], thick * 0.55, tint(frame, 0.85))
        else:
            for t in np.linspace(0.3, 0.75, rng.integers(2, 4)):
                p, q = (np.array(bl) * (1 - t) + np.array(top_l) * t,
                        np.array(br) * (1 - t) + np.array(top_r) * t)
                pen.line([p, q], thick * 0.9, tint(frame, 0.85))
        pen.limb([top_l, top_r], (thick * 1.5, thick * 1.5), frame)
    pen.line([(-0.44, 0.48), (0.36, 0.48)], thick * 0.5, dark)
    for x, y in (fl, fr):
        pen.limb([(x + (0.04 if x < 0 else -0.04), y), (x, 0.92)], (thick * 1.1, thick * 0.85), frame)
    pen.poly([fl, fr, br, bl], seat)
    pen.poly([fl, fr, (fr[0], fr[1] + 0.09), (fl[0], fl[1] + 0.09)], dark)
    if rng.random() < 0.25:
        for low, high in ((fl, bl), (fr, br)):
            pen.line([(low[0], low[1]), (low[0] + 0.03, low[1] - 0.32), (high[0], high[1] - 0.38)],
                     thick * 0.8, frame)
    pen.anchor("seat", 0.05, 0.0)


def _office_chair(pen: Pen) -> None:
    rng = pen.rng
    cover, metal = fabric(rng), hsv(0.6, 0.05, rng.uniform(0.15, 0.7))
    for x in (-0.42, -0.2, 0.12, 0.4):
        pen.limb([(0, 0.6), (x, 0.76)], (0.09, 0.06), metal)
        pen.ellipse(x, 0.82, 0.06, 0.07, BLACK)
    pen.limb([(0, 0.1), (0, 0.62)], (0.1, 0.1), metal)
    pen.limb([(-0.2, 0.05), (-0.34, -0.4)], (0.09, 0.09), metal)
    tall = rng.uniform(-1.1, -0.75)
    pen.blob([(-0.42, -0.16), (-0.5, tall + 0.1), (-0.4, tall), (-0.27, tall + 0.08), (-0.2, -0.5),
              (-0.22, -0.14)], cover)
    pen.blob([(-0.4, -0.02), (-0.3, -0.1), (0.35, -0.1), (0.5, 0.0), (0.42, 0.1), (-0.34, 0.1)], cover)
    if rng.random() < 0.7:
        pen.line([(-0.1, 0.0), (-0.08, -0.28)], 0.05, metal)
        pen.limb([(-0.22, -0.3), (0.2, -0.32)], (0.08, 0.08), BLACK)
    pen.anchor("seat", 0.05, -0.08)


def diningtable(pen: Pen) -> None:
    """A laid table: a rectangular one on four legs, a round one on a foot, or one under a table cloth."""
    rng = pen.rng
    timber, cloth = wood(rng), fabric(rng)
    style = rng.choice(3, p=[0.45, 0.3, 0.25])
    top = cloth if style == 2 or rng.random() < 0.3 else timber
    dark, depth = tint(timber.colour, 0.65), rng.uniform(0.22, 0.42)
    if style == 1:
        pen.limb([(0, 0.05), (0, 0.6)], (0.16, 0.12), dark)
        for x in (-0.4, 0.4, 0.08):
            pen.limb([(0, 0.52), (x, 0.74)], (0.11, 0.08), dark)
        pen.ellipse(0, 0.06, 1.0, depth * 0.9, tint(top.colour, 0.6))
        pen.ellipse(0, 0.0, 1.0, depth * 0.9, top)
        angles = np.arange(4) * np.pi / 2 + rng.uniform(0, 1.5)
        places = [(0.62 * np.cos(a), depth * 0.55 * np.sin(a)) for a in angles]
        centre = (0.0, 0.0)
    else:
        lean = rng.uniform(0.05, 0.3)
        for x in (-0.78 + lean, 0.8 - lean * 0.4):
            pen.limb([(x, -depth), (x, 0.45)], (0.09, 0.07), tint(dark, 0.8))
        for x in (-0.9, 0.9):
            pen.limb([(x, depth), (x, 0.82 + depth * 0.3)], (0.12, 0.08), dark)
        if style == 2:
            x = np.linspace(-1.02, 1.02, 9)
            hem = 0.42 + 0.05 * np.cos(np.arange(9) * np.pi)
            pen.poly([(-1.0, depth), *zip(x, hem + depth * 0.6), (1.0, depth)],
                     Paint(tint(cloth.colour, 0.85), tint(cloth.second, 0.7), cloth.tile))
        else:
            pen.poly([(-1, depth), (1, depth), (0.97, depth + 0.12), (-0.97, depth + 0.12)], dark)
        pen.poly([(-1, depth), (-0.85 + lean, -depth), (0.87 - lean * 0.4, -depth), (1, depth)], top)
        places = [(-0.55, depth * 0.45), (0.55, depth * 0.45), (-0.42, -depth * 0.55), (0.45, -depth * 0.55)]
        centre = (0.02, -depth * 0.1)
    china, food = hsv(rng.random(), rng.uniform(0, 0.25), 0.96), hsv(rng.random(), 0.8, 0.8)
    for k, (x, y) in enumerate(places):
        if rng.random() < 0.85:
            r = 0.16 if y > 0 else 0.13
            pen.ellipse(x, y, r, r * 0.48, china)
            pen.ellipse(x, y, r * 0.62, r * 0.28, food if k % 2 else tint(china, 0.82))
            if rng.random() < 0.6:
                pen.line([(x + r * 1.3, y - 0.05), (x + r * 1.35, y + 0.05)], 0.018, (150, 150, 156))
        if rng.random() < 0.5:
            x, y = x * 0.55 + 0.08, y - 0.04
            pen.poly([(x - 0.045, y - 0.16), (x + 0.045, y - 0.16), (x + 0.03, y), (x - 0.03, y)],
                     hsv(0.55, 0.25, 0.85))
    if rng.random() < 0.5:
        x, y = centre
        pen.ellipse(x, y, 0.17, 0.08, tint(food, 0.6))
        pen.puffs([(x - 0.08, y - 0.06), (x + 0.07, y - 0.06), (x, y - 0.12)], 0.075,
                  hsv(rng.uniform(0, 0.3), 0.8, 0.85))
    pen.anchor("top", rng.uniform(-0.4, 0.4), -0.05)


def _leafy(pen: Pen, kind: int, green: Colour) -> None:
    rng = pen.rng
    if kind == 0:  # broad leaves
        for angle in rng.permutation(np.linspace(-78, 78, int(rng.integers(7, 12))) + rng.normal(0, 6)):
            size, reach = rng.uniform(0.4, 0.62), rng.uniform(0.3, 0.6)
            shade = tint(green, rng.uniform(0.6, 1.25))
            leaf = (np.array([(0, 0), (-0.17, -0.35), (-0.14, -0.7), (0, -1.0), (0.14, -0.7),
                              (0.17, -0.35)]) * (1.1, 1) * size)
            leaf = turn(np.add(leaf, (0, -reach)), angle)
            pen.curve([(0, 0.02), turn([(0, -reach)], angle)[0]], 0.035, tint(green, 0.55))
            pen.blob(leaf, Paint(shade, tint(shade, 0.7), "leaf"))
            pen.line(leaf[[0, 3]], 0.015, tint(shade, 0.55))
    elif kind == 1:  # grassy or dracaena leaves
        for angle in rng.permutation(np.linspace(-75, 75, int(rng.integers(12, 18)))):
            reach, sag = rng.uniform(0.75, 1.15), angle / 90
            tip = (reach * np.sin(np.deg2rad(angle)) * 1.05,
                   -reach * np.cos(np.deg2rad(angle)) + abs(sag) * 0.35)
            path = smooth([(0, 0.03), (tip[0] * 0.45, tip[1] * 0.75 - 0.12), tip], closed=False)
            pen.limb(path, np.linspace(0.085, 0.02, len(path)), tint(green, rng.uniform(0.6, 1.3)))
    elif kind == 2:  # a flowering plant
        stems = np.linspace(-55, 55, int(rng.integers(4, 8)))
        tips = [turn([(0, -rng.uniform(0.6, 1.0))], angle)[0] for angle in stems]
        for angle, tip in zip(stems, tips):
            pen.curve([(0, 0.02), tip * (0.4, 0.6), tip], 0.04, tint(green, 0.75))
            for side in (-25, 25):
                pen.blob(turn([(0, -0.2), (-0.09, -0.38), (0, -0.62), (0.09, -0.38)], angle + side),
                         tint(green, rng.uniform(0.75, 1.15)))
        petals = hsv(rng.random(), rng.uniform(0.5, 0.95), 0.95)
        for x, y in tips:
            ring = np.arange(6) * np.pi / 3
            pen.puffs(np.stack([x + 0.09 * np.cos(ring), y + 0.09 * np.sin(ring)], axis=1), 0.075, petals)
            pen.ellipse(x, y, 0.055, 0.055, hsv(0.13, 0.9, 0.95))
    else:  # a bushy crown of small leaves on stems
        for x in (-0.16, 0.0, 0.15):
            pen.curve([(x * 0.4, 0.05), (x, -0.3), (x * 1.8, -0.55)], 0.05, (96, 70, 46))
        for k in range(int(rng.integers(26, 38))):
            a, d = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
            x, y = 0.52 * d * np.cos(a), -0.62 + 0.42 * d * np.sin(a)
            pen.ellipse(x, y, 0.14, 0.075, tint(green, 0.6 + 0.7 * (k % 5) / 5), angle=rng.uniform(-80, 80))


def pottedplant(pen: Pen) -> None:
    """A plant in a pot: broad leaves, grassy leaves, flowers or a bushy crown; pots of several shapes."""
    rng = pen.rng
    green = hsv(rng.uniform(0.2, 0.42), rng.uniform(0.35, 0.85), rng.uniform(0.3, 0.75))
    clay = hsv(0.045, 0.65, rng.uniform(0.5, 0.8))
    if rng.random() < 0.6:
        clay = hsv(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.3, 0.95))
    tile = str(rng.choice(["sheen", "shade", "band", "check"], p=[0.45, 0.35, 0.1, 0.1]))
    pot = Paint(tint(clay, 0.65), tint(clay, 1.15), tile)
    wide, foot, tall = rng.uniform(0.3, 0.46), rng.uniform(0.2, 0.34), rng.uniform(0.42, 0.7)
    kind = int(rng.integers(4))
    if rng.random() < 0.5:
        _leafy(pen, kind, green)
        pen.poly([(-wide, 0.1), (wide, 0.1), (foot, 0.1 + tall), (-foot, 0.1 + tall)], pot)
        pen.rect(-wide * 1.12, -0.02, wide * 1.12, 0.14, Paint(tint(clay, 0.75), tint(clay, 1.25), "sheen"))
    else:
        _leafy(pen, kind, green)
        pen.blob([(-wide * 0.85, 0.0), (-wide * 1.15, tall * 0.45), (-foot, tall), (0, tall * 1.03),
                  (foot, tall), (wide * 1.15, tall * 0.45), (wide * 0.85, 0.0), (0, 0.02)], pot)
        pen.ellipse(0, 0.01, wide * 0.85, 0.07, tint(clay, 0.4))
        if kind in (0, 2):
            pen.blob([(-0.05, 0.02), (-0.3, -0.12), (-0.42, -0.05), (-0.2, 0.05)], tint(green, 0.9))
            pen.blob([(0.05, 0.02), (0.28, -0.14), (0.42, -0.04), (0.2, 0.05)], tint(green, 1.1))
    if rng.random() < 0.3:
        pen.ellipse(0, 0.09 + tall, foot * 1.6, 0.07, tint(clay, 0.7))
    pen.anchor("foot", 0, 0.1 + tall)


def sofa(pen: Pen) -> None:
    """A sofa from the front or obliquely: back, seat cushions, two arms, short feet, throw cushions."""
    rng = pen.rng
    cover = fabric(rng)
    lighter = Paint(tint(cover.colour, 1.15), tint(cover.second, 1.1), cover.tile)
    darker = Paint(tint(cover.colour, 0.78), tint(cover.second, 0.78), cover.tile)
    half, back, arm = rng.uniform(0.85, 1.15), rng.uniform(0.5, 0.72), rng.uniform(0.17, 0.27)
    seats, rounding = int(rng.integers(2, 4)), rng.uniform(0.06, 0.16)
    for x in (-half + 0.08, half - 0.08):
        pen.rect(x - 0.05, 0.4, x + 0.05, 0.56, (60, 42, 30))
    pen.rect(-half + 0.06, -back, half - 0.06, 0.3, darker, rounding=rounding)
    edges = np.linspace(-half + arm, half - arm, seats + 1)
    for a, b in pairwise(edges):
        pen.rect(a, -back + 0.08, b, 0.08, cover, rounding=rounding * 0.8)
    pen.poly([(edges[0], 0.02), (edges[-1], 0.02), (edges[-1], 0.46), (edges[0], 0.46)], darker)
    for a, b in pairwise(edges):
        pen.rect(a, 0.02, b, 0.26, lighter, rounding=min(rounding, 0.09))
    if rng.random() < 0.35:  # chaise longue
        pen.rect(edges[-2], 0.12, half, 0.52, lighter, rounding=0.06)
        pen.rect(edges[-2], 0.3, half, 0.56, darker, rounding=0.04)
    rise = rng.uniform(-0.28, -0.05)
    for side in (-1, 1):
        x0, x1 = sorted((side * half, side * (half - arm)))
        pen.rect(x0, rise, x1, 0.48, cover, rounding=min(arm * 0.45, 0.1))
        if rng.random() < 0.5:
            pen.ellipse((x0 + x1) / 2, rise + 0.06, arm * 0.58, 0.1, lighter)
    for side in (-1, 1):
        if rng.random() < 0.5:
            with pen.frame(side * (half - arm - 0.2), -0.12, angle=side * rng.uniform(-10, 30)):
                pen.blob([(-0.19, -0.19), (0, -0.15), (0.19, -0.19), (0.16, 0), (0.19, 0.19), (0, 0.16),
                          (-0.19, 0.19), (-0.16, 0)], fabric(rng),)
    pen.anchor("seat", rng.uniform(-0.35, 0.35), 0.08)


def _image(pen: Pen, x0: float, y0: float, x1: float, y1: float) -> None:
    """What the screen shows: nothing, a landscape, windows with text, or colour bars."""
    rng = pen.rng
    kind, w, h = rng.integers(4), x1 - x0, y1 - y0
    if kind == 0:
        dark = hsv(0.6, 0.2, rng.uniform(0.06, 0.25))
        pen.rect(x0, y0, x1, y1, Paint(dark, tint(dark, 1.35), "glass"))
    elif kind == 1:
        sky = hsv(rng.random(), 0.5, 0.9)
        pen.rect(x0, y0, x1, y1, Paint(sky, tint(sky, 1.6), "shade"))
        pen.ellipse(x0 + w * rng.uniform(0.2, 0.8), y0 + h * 0.3, w * 0.09, w * 0.09, (255, 236, 150))
        horizon = y0 + h * rng.uniform(0.55, 0.75)
        pen.poly([(x0, horizon), (x0 + w * 0.3, horizon - h * 0.25), (x0 + w * 0.55, horizon),
                  (x0 + w * 0.8, horizon - h * 0.15), (x1, horizon), (x1, y1), (x0, y1)],
                 hsv(rng.uniform(0.1, 0.45), 0.6, 0.5))
    elif kind == 2:
        pen.rect(x0, y0, x1, y1, hsv(rng.random(), 0.4, rng.uniform(0.3, 0.7)))
        pen.rect(x0 + w * 0.08, y0 + h * 0.12, x0 + w * 0.68, y0 + h * 0.85, WHITE)
        pen.rect(x0 + w * 0.08, y0 + h * 0.12, x0 + w * 0.68, y0 + h * 0.2, hsv(0.6, 0.6, 0.6))
        for t in np.arange(0.3, 0.8, 0.12):
            pen.line([(x0 + w * 0.13, y0 + h * t), (x0 + w * rng.uniform(0.4, 0.62), y0 + h * t)], 0.03,
                     (110, 110, 116))
        pen.rect(x0 + w * 0.75, y0 + h * 0.15, x0 + w * 0.93, y0 + h * 0.4, hsv(rng.random(), 0.7, 0.9))
    else:
        count = int(rng.integers(4, 8))
        for k in range(count):
            pen.rect(x0 + w * k / count, y0, x0 + w * (k + 1) / count, y1, hsv(rng.random(), 0.8, 0.9))


def tvmonitor(pen: Pen) -> None:
    """A flat screen on its foot, a boxy television with aerial and knobs, or a monitor with a keyboard."""
    rng = pen.rng
    case = hsv(0.6, 0.05, rng.uniform(0.08, 0.35))
    if rng.random() < 0.4:
        case = hsv(0.12, rng.uniform(0, 0.2), rng.uniform(0.6, 0.92))
    kind = rng.choice(3, p=[0.4, 0.3, 0.3])
    if kind == 1:
        shell = wood(rng) if rng.random() < 0.5 else Paint(tint(case, 1.1), tint(case, 0.75), "shade")
        if rng.random() < 0.75:
            for side in (-1, 1):
                pen.line([(0, -0.62), (side * rng.uniform(0.25, 0.5), -1.05)], 0.03, (150, 150, 154))
            pen.ellipse(0, -0.62, 0.14, 0.08, BLACK)
        for x in (-0.5, 0.5):
            pen.limb([(x, 0.55), (x * 1.15, 0.76)], (0.09, 0.06), BLACK)
        pen.poly([(0.8, -0.6), (1.02, -0.46), (1.02, 0.44), (0.8, 0.6)], tint(shell.colour, 0.55))
        pen.rect(-0.82, -0.62, 0.82, 0.6, shell, rounding=0.08)
        pen.rect(-0.72, -0.52, 0.42, 0.5, BLACK, rounding=0.12)
        _image(pen, -0.64, -0.43, 0.34, 0.41)
        for y in (-0.35, -0.08):
            pen.ellipse(0.62, y, 0.09, 0.09, (200, 200, 200))
            pen.line([(0.62, y), (0.66, y - 0.05)], 0.025, BLACK)
        for y in (0.16, 0.26, 0.36):
            pen.line([(0.52, y), (0.72, y)], 0.03, BLACK)
        return
    ratio = rng.uniform(0.55, 0.66) if kind == 0 else rng.uniform(0.62, 0.8)
    rim = rng.uniform(0.045, 0.1)
    if kind == 0 and rng.random() < 0.35:
        for x in (-0.55, 0.55):
            pen.line([(x, ratio), (x - 0.12, ratio + 0.15)], 0.05, case)
            pen.line([(x, ratio), (x + 0.12, ratio + 0.15)], 0.05, case)
    else:
        pen.poly([(-0.1, ratio), (0.1, ratio), (0.14, ratio + 0.22), (-0.14, ratio + 0.22)], tint(case, 0.8))
        pen.ellipse(0, ratio + 0.24, rng.uniform(0.3, 0.5), 0.065, tint(case, 0.9))
    pen.rect(-1, -ratio, 1, ratio, case, rounding=0.05)
    _image(pen, -1 + rim, -ratio + rim, 1 - rim, ratio - rim - rng.uniform(0, 0.08))
    pen.poly([(-0.9, -ratio + rim), (-0.55, -ratio + rim), (-0.85, -0.1), (-0.93, -0.1)], tint(case, 1.5))
    if kind == 2 and rng.random() < 0.65:
        y = ratio + 0.36
        pen.poly([(-0.72, y), (0.66, y), (0.76, y + 0.24), (-0.82, y + 0.24)], tint(case, 0.9))
        for t in (0.06, 0.12, 0.18):
            pen.line([(-0.68 - t * 0.3, y + t), (0.62 + t * 0.3, y + t)], 0.03,
                     tint(case, 0.45 if case.mean() > 110 else 1.6))


HOUSEHOLD = {"bottle": bottle, "chair": chair, "diningtable": diningtable, "pottedplant": pottedplant,
             "sofa": sofa, "tvmonitor": tvmonitor}
