"""Drawings of VOC's vehicles: aeroplane, bicycle, boat, bus, car, motorbike."""

# An outline reads better as rows of points than with a line for each.
# fmt: off
import numpy as np

from toyvoc.silhouettes.pen import Colour, Paint, Pen, hsv, tint

BLACK, WHITE = np.array([28.0, 28, 32]), np.array([236.0, 236, 232])


def lacquer(rng: np.random.Generator) -> np.ndarray:
    """A colour for painted metal: any hue, or one of the greys."""
    if rng.random() < 0.35:
        return hsv(rng.random(), 0.06, rng.uniform(0.25, 0.97))
    return hsv(rng.random(), rng.uniform(0.4, 0.95), rng.uniform(0.4, 0.95))


def glass(rng: np.random.Generator) -> Paint:
    """Window glass: a bluish, dark or bright pane with a reflection."""
    value = rng.uniform(0.12, 0.62)
    return Paint(hsv(0.56, 0.25, value), hsv(0.56, 0.2, value + 0.25), "glass")


def wheel(pen: Pen, x: float, y: float, radius: float, hub: Colour, squeeze: float = 1.0) -> None:
    """A road wheel: dark tyre, metal disc with spokes, hub."""
    rng = pen.rng
    with pen.frame(x, y, scale=(squeeze, 1.0)):
        pen.ellipse(0, 0, radius, radius, hsv(0.6, 0.05, rng.uniform(0.08, 0.18)))
        pen.ellipse(0, 0, radius * 0.6, radius * 0.6, hub)
        spokes, start = int(rng.integers(4, 7)), rng.uniform(0, 3)
        angles = start + np.arange(spokes) * 2 * np.pi / spokes
        tips = 0.55 * radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        pen.hair([[(0, 0), tip] for tip in tips], tint(hub, 0.2))
        pen.ellipse(0, 0, radius * 0.16, radius * 0.16, tint(hub, 0.5))


def aeroplane(pen: Pen) -> None:
    """An airliner from the side or from below, or a small propeller plane."""
    draw = pen.rng.choice([_airliner_side, _airliner_plan, _propeller], p=[0.45, 0.3, 0.25])
    draw(pen)


def _airliner_side(pen: Pen) -> None:
    rng = pen.rng
    hull, livery = hsv(rng.random(), rng.uniform(0, 0.12), rng.uniform(0.7, 0.97)), lacquer(rng)
    if rng.random() < 0.3:
        hull = lacquer(rng)
    fat = rng.uniform(0.1, 0.15)
    wing = tint(hull, rng.uniform(0.62, 0.9))
    pen.poly([(0.05, 0), (-0.3, -0.3), (-0.42, -0.3), (-0.28, 0)], tint(wing, 0.8))  # far wing
    pen.poly([(-0.82, 0), (-1.02, -0.12), (-1.1, -0.12), (-1.0, 0)], tint(wing, 0.8))
    fin = rng.uniform(0.36, 0.5)
    pen.poly([(-0.62, -fat * 0.7), (-0.93, -fat - fin), (-1.1, -fat - fin), (-0.98, -fat * 0.2)], livery)
    pen.blob([(1.02, 0.05), (0.92, -fat * 0.6), (0.7, -fat), (0, -fat), (-0.6, -fat), (-1.08, -fat * 0.5),
              (-1.1, -fat * 0.25), (-0.6, fat * 0.8), (0, fat), (0.7, fat), (0.95, fat * 0.8)], hull)
    if rng.random() < 0.6:
        low = fat * rng.uniform(0.15, 0.45)
        pen.poly([(-0.85, low - 0.04), (0.93, low - 0.03), (0.93, low + 0.01), (-0.8, low + 0.02)], livery)
    pane = hsv(0.58, 0.4, rng.uniform(0.1, 0.35))
    for x in np.arange(-0.72, 0.66, rng.uniform(0.075, 0.12)):
        pen.rect(x, -fat * 0.45, x + 0.035, -fat * 0.08, pane)
    pen.poly([(0.78, -fat * 0.75), (0.88, -fat * 0.55), (0.92, -fat * 0.2), (0.8, -fat * 0.2)], pane)
    drop = rng.uniform(0.3, 0.5)
    pen.ellipse(0.02, fat + 0.1, 0.15, 0.065, tint(livery, 0.8))  # engine
    pen.ellipse(0.15, fat + 0.1, 0.03, 0.06, BLACK)
    pen.poly([(0.24, fat * 0.35), (-0.32, fat + drop), (-0.48, fat + drop), (-0.22, fat * 0.4)], wing)
    pen.poly([(-0.8, 0.0), (-1.05, 0.16), (-1.16, 0.16), (-1.02, -0.01)], wing)
    if rng.random() < 0.3:
        for x in (0.72, -0.1):
            pen.line([(x, fat * 0.8), (x, fat + 0.17)], 0.03, BLACK)
            pen.ellipse(x, fat + 0.19, 0.05, 0.05, BLACK)


def _airliner_plan(pen: Pen) -> None:
    rng = pen.rng
    hull = hsv(rng.random(), rng.uniform(0, 0.15), rng.uniform(0.55, 0.95))
    if rng.random() < 0.3:
        hull = lacquer(rng)
    wing, livery = tint(hull, rng.uniform(0.7, 0.95)), lacquer(rng)
    sweep, reach, fat = rng.uniform(0.25, 0.65), rng.uniform(0.75, 1.05), rng.uniform(0.08, 0.13)
    for side in (-1, 1):
        depth = rng.uniform(0.75, 1.0) if side < 0 else 1.0  # a banked plane shows one wing shorter
        tip = side * reach * depth
        pen.poly([(0.3, 0), (0.25 - sweep, tip), (0.1 - sweep, tip), (-0.12, 0)], wing)
        for where in (0.38, 0.65)[: int(rng.integers(1, 3))]:
            x = 0.22 - sweep * where
            pen.ellipse(x, tip * where, 0.12, 0.05, tint(livery, 0.75))
        pen.poly([(-0.75, 0), (-1.0, side * 0.36 * depth), (-1.1, side * 0.36 * depth), (-0.98, 0)], wing)
    pen.blob([(1.05, 0), (0.9, -fat), (0.5, -fat * 1.1), (-0.5, -fat), (-1.1, -0.03), (-1.1, 0.03),
              (-0.5, fat), (0.5, fat * 1.1), (0.9, fat)], hull)
    pen.poly([(-0.7, -0.02), (-1.12, -0.03), (-1.12, 0.03), (-0.7, 0.02)], livery)
    pen.ellipse(0.9, 0, 0.05, fat * 0.55, hsv(0.58, 0.4, 0.2))


def _propeller(pen: Pen) -> None:
    rng = pen.rng
    hull, trim = lacquer(rng), lacquer(rng)
    pen.poly([(-0.75, -0.05), (-1.02, -0.45), (-1.15, -0.45), (-1.08, 0.0)], trim)
    pen.blob([(0.8, -0.05), (0.72, -0.15), (0.45, -0.18), (0.25, -0.34), (-0.15, -0.34), (-0.4, -0.14),
              (-1.1, -0.08), (-1.12, 0.02), (-0.4, 0.16), (0.3, 0.2), (0.74, 0.14)], hull)
    pen.poly([(0.38, -0.19), (0.22, -0.31), (0.03, -0.31), (0.03, -0.17)], glass(rng))
    pen.poly([(-0.02, -0.17), (-0.02, -0.31), (-0.14, -0.31), (-0.3, -0.16)], glass(rng))
    pen.poly([(-0.7, 0.01), (0.7, 0.0), (0.7, 0.05), (-0.7, 0.05)], trim)
    high = rng.random() < 0.5
    y = -0.34 if high else 0.12
    pen.poly([(0.3, y), (0.32, y - 0.07), (-0.35, y - 0.07), (-0.4, y)], tint(trim, 0.9))
    pen.poly([(0.28, y), (0.1, y + 0.2), (-0.42, y + 0.2), (-0.36, y)], tint(hull, 0.75))
    pen.poly([(-0.85, -0.03), (-0.95, 0.1), (-1.22, 0.1), (-1.12, -0.04)], tint(trim, 0.8))
    pen.poly([(0.79, -0.13), (0.92, -0.02), (0.79, 0.08)], trim)
    pen.ellipse(0.89, -0.02, 0.025, 0.4, hsv(0.08, 0.3, rng.uniform(0.2, 0.6)), angle=rng.uniform(-12, 12))
    for x in (0.45, -0.05):
        pen.line([(x, 0.15), (x + 0.04, 0.36)], 0.035, tint(hull, 0.5))
        pen.ellipse(x + 0.04, 0.38, 0.08, 0.08, BLACK)


def bicycle(pen: Pen) -> None:
    """Two spoked wheels, a thin diamond frame, saddle and handlebar; seen from the side or obliquely."""
    rng = pen.rng
    colour = lacquer(rng)
    tyre = hsv(0.08, rng.uniform(0, 0.3), rng.uniform(0.08, 0.3))
    radius, base, squeeze = rng.uniform(0.36, 0.44), rng.uniform(0.54, 0.62), rng.uniform(0.75, 1.0)
    tube = rng.uniform(0.038, 0.06)
    rear, front = (-base, 0.36), (base, 0.36)
    for x, y in (rear, front):
        angles = np.arange(0, np.pi, np.pi / 9) + rng.uniform(0, 0.3)
        tips = np.stack([radius * squeeze * np.cos(angles), radius * np.sin(angles)], axis=1)
        pen.hair([[np.subtract((x, y), tip), np.add((x, y), tip)] for tip in tips], (205, 205, 205))
        pen.ring(x, y, radius, rng.uniform(0.045, 0.07), tyre, squeeze)
        pen.ring(x, y, radius * 0.9, 0.012, (170, 170, 172), squeeze)
        pen.ellipse(x, y, 0.045, 0.045, (90, 90, 90))
    low = rng.random() < 0.35  # step-through frame
    crank, seat, head = (-0.1, 0.4), (-0.26, -0.12), (0.4, -0.14)
    top = (-0.2, 0.1) if low else seat
    head_low = (head[0] + 0.03, head[1] + 0.14)
    for a, b in ((rear, crank), (rear, top), (crank, (-0.3, -0.24)), (crank, head_low), (top, head)):
        pen.line([a, b], tube, colour)
    pen.line([(0.37, -0.24), head, head_low, (base - 0.02, 0.2), front], tube, tint(colour, 0.8))
    pen.ring(*crank, 0.1, 0.025, BLACK)
    angle = rng.uniform(0, np.pi)
    for sign in (-1, 1):
        foot = (crank[0] + sign * 0.17 * np.cos(angle), crank[1] + sign * 0.17 * np.sin(angle))
        pen.line([crank, foot], 0.03, (70, 70, 70))
        pen.line([(foot[0] - 0.06, foot[1]), (foot[0] + 0.06, foot[1])], 0.045, BLACK)
    leather = hsv(0.07, rng.uniform(0, 0.7), rng.uniform(0.1, 0.4))
    pen.limb([(-0.42, -0.26), (-0.2, -0.26)], (0.1, 0.05), leather)
    bar = rng.integers(3)
    if bar == 0:
        pen.curve([(0.36, -0.25), (0.5, -0.27), (0.56, -0.16), (0.46, -0.06)], tube, BLACK)
    elif bar == 1:
        pen.curve([(0.4, -0.25), (0.37, -0.33), (0.22, -0.32), (0.15, -0.28)], tube, BLACK)
    else:
        pen.line([(0.5, -0.31), (0.36, -0.25), (0.27, -0.29)], tube, BLACK)
    if rng.random() < 0.25:
        weave = Paint(hsv(0.09, 0.5, 0.65), hsv(0.09, 0.6, 0.35), "weave")
        pen.poly([(0.46, -0.22), (0.8, -0.24), (0.74, 0.0), (0.5, 0.0)], weave)
    if rng.random() < 0.3:
        pen.line([(-0.3, -0.06), (-0.85, -0.06)], 0.03, BLACK)
        pen.line([(-0.8, -0.06), rear], 0.025, BLACK)
    pen.anchor("saddle", -0.3, -0.3)
    pen.anchor("grip", 0.36, -0.3)
    pen.anchor("pedal", crank[0] + 0.1, crank[1] + 0.12)


def boat(pen: Pen) -> None:
    """A sailing boat, a motor boat or a small ship."""
    rng = pen.rng
    kind = rng.choice(3, p=[0.5, 0.27, 0.23])
    hull, trim = lacquer(rng), lacquer(rng)
    if kind == 0:
        mast = rng.uniform(1.25, 1.7)
        pen.line([(0.0, 0.05), (0.0, -mast)], 0.035, hsv(0.08, 0.5, rng.uniform(0.25, 0.6)))
        cloth = hsv(rng.random(), rng.choice([0.04, 0.6]), rng.uniform(0.75, 0.97))
        sail = Paint(cloth, tint(cloth, 0.75), str(rng.choice(["shade", "grain", "pinstripe"])))
        belly = rng.uniform(0.02, 0.14)
        pen.blob([(-0.05, -mast * 0.97), (-0.3 - belly, -mast * 0.5), (-0.66, -0.16), (-0.64, -0.12),
                  (-0.3, -0.08), (-0.05, -0.1), (-0.05, -0.3)], sail)
        pen.line([(0, -0.07), (-0.72, -0.09)], 0.03, (96, 70, 50))
        if rng.random() < 0.8:
            front = tint(cloth, 0.9)
            if rng.random() < 0.4:
                front = hsv(rng.random(), rng.choice([0.05, 0.6]), 0.92)
            pen.blob([(0.04, -mast * rng.uniform(0.7, 0.9)), (0.38 + belly, -mast * 0.38), (0.78, -0.07),
                      (0.4, -0.08), (0.06, -0.14), (0.03, -0.4)], front)
        pen.poly([(0, -mast), (0, -mast - 0.1), (-0.16, -mast - 0.05)], trim)
        pen.poly([(-0.85, 0), (0.98, -0.06), (0.86, 0.12), (0.6, 0.27), (-0.62, 0.27), (-0.8, 0.14)], hull)
    elif kind == 1:
        pen.poly([(-0.5, 0.0), (-0.42, -0.34), (0.1, -0.34), (0.42, 0.0)], tint(trim, 1.2))
        pen.poly([(-0.36, -0.04), (-0.33, -0.27), (-0.1, -0.27), (-0.1, -0.04)], glass(rng))
        pen.poly([(-0.04, -0.04), (-0.04, -0.27), (0.07, -0.27), (0.3, -0.04)], glass(rng))
        pen.line([(-0.2, -0.34), (-0.26, -0.75)], 0.03, WHITE)
        pen.poly([(-0.26, -0.74), (-0.5, -0.66), (-0.25, -0.58)], trim)
        pen.line([(0.4, -0.1), (0.7, -0.2), (1.0, -0.22)], 0.025, WHITE)
        pen.poly([(-0.95, -0.02), (0.5, -0.04), (1.15, -0.14), (0.95, 0.08), (0.7, 0.28), (-0.9, 0.28)], hull)
    else:
        pen.rect(-0.6, -0.28, 0.45, 0.0, WHITE * rng.uniform(0.8, 1.0))
        pen.rect(-0.45, -0.52, 0.22, -0.27, WHITE * rng.uniform(0.8, 1.0))
        for x in np.arange(-0.52, 0.38, 0.16):
            pen.ellipse(x + 0.05, -0.13, 0.045, 0.045, hsv(0.58, 0.5, 0.25))
        pen.rect(-0.38, -0.46, 0.16, -0.36, glass(rng))
        pen.poly([(-0.3, -0.5), (-0.27, -0.92), (-0.05, -0.92), (-0.02, -0.5)], trim)
        pen.rect(-0.285, -0.84, -0.04, -0.74, tint(trim, 0.35))
        pen.line([(0.5, 0), (0.56, -0.8)], 0.03, (90, 70, 60))
        pen.poly([(-1.0, -0.1), (-0.9, 0.0), (0.8, 0.0), (1.1, -0.18), (0.9, 0.34), (-0.85, 0.34)], hull)
    band = rng.uniform(0.12, 0.2)
    pen.poly([(-0.79, band), (0.82, band), (0.72, band + 0.06), (-0.74, band + 0.06)], tint(trim, 1.1))
    if rng.random() < 0.6:  # bow wave
        foam = Paint(WHITE, hsv(0.55, 0.3, 0.8), "water")
        pen.blob([(-1.0, 0.31), (-0.5, 0.24), (0, 0.3), (0.5, 0.25), (1.02, 0.31), (0.5, 0.36),
                  (-0.5, 0.36)], foam)


def bus(pen: Pen) -> None:
    """A bus from the side (also with two decks) or from the front."""
    rng = pen.rng
    body, trim, roof = lacquer(rng), lacquer(rng), rng.uniform(0.05, 0.1)
    if rng.random() < 0.3:
        _bus_front(pen, body, trim)
        return
    decks = 2 if rng.random() < 0.25 else 1
    length, floor = rng.uniform(1.0, 1.3) if decks == 1 else rng.uniform(0.85, 1.0), 0.42
    top = -0.38 if decks == 1 else -0.88
    pen.rect(-length, top, length, floor, body, rounding=roof)
    if rng.random() < 0.7:
        y = rng.uniform(0.08, 0.25)
        pen.rect(-length, y, length, y + rng.uniform(0.05, 0.14), trim)
    pane = glass(rng)
    door = length - 0.34
    for deck in range(decks):
        y = top + 0.1 + deck * 0.5
        right = door if deck == decks - 1 else length - 0.05
        step = rng.uniform(0.24, 0.34)
        for x in np.arange(-length + 0.06, right - step + 0.04, step):
            pen.rect(x, y, x + step - 0.04, y + 0.28, pane, rounding=0.02)
    y = floor - 0.7
    pen.rect(door, y, door + 0.18, floor - 0.03, tint(body, 0.6))
    pen.rect(door + 0.02, y + 0.03, door + 0.08, floor - 0.08, pane)
    pen.rect(door + 0.1, y + 0.03, door + 0.16, floor - 0.08, pane)
    pen.rect(length - 0.13, y, length, y + 0.4, pane, rounding=0.03)  # wind screen
    pen.rect(length - 0.06, floor - 0.16, length + 0.01, floor - 0.09, (250, 235, 170))
    pen.rect(-length - 0.01, floor - 0.18, -length + 0.04, floor - 0.08, (200, 30, 30))
    hub = hsv(0, 0, rng.uniform(0.4, 0.8))
    for x in (-length * 0.6, length * 0.42):
        pen.ellipse(x, floor - 0.01, 0.2, 0.2, BLACK)
        wheel(pen, x, floor + 0.01, 0.155, hub)
    pen.line([(length, y + 0.05), (length + 0.07, y + 0.08), (length + 0.07, y + 0.2)], 0.035, BLACK)


def _bus_front(pen: Pen, body: Colour, trim: Colour) -> None:
    rng = pen.rng
    tall = rng.uniform(0.75, 0.95)
    for x in (-0.5, 0.3):
        pen.rect(x, 0.6, x + 0.2, 0.86, BLACK, rounding=0.04)
    pen.poly([(-0.6, -tall + 0.06), (-0.95, -tall + 0.16), (-0.98, 0.58), (-0.6, 0.72)], tint(body, 0.7))
    for x in (-0.92, -0.78):
        pen.poly([(x, -tall + 0.28), (x + 0.11, -tall + 0.26), (x + 0.11, 0.12), (x, 0.12)], glass(rng))
    pen.rect(-0.62, -tall, 0.62, 0.74, body, rounding=0.1)
    pen.rect(-0.45, -tall + 0.06, 0.45, -tall + 0.22, BLACK, rounding=0.03)
    pen.line([(-0.3, -tall + 0.14), (0.3, -tall + 0.14)], 0.05, (250, 190, 60))
    pen.rect(-0.55, -tall + 0.28, 0.55, 0.16, glass(rng), rounding=0.06)
    pen.line([(0, -tall + 0.28), (0, 0.16)], 0.03, tint(body, 0.6))
    pen.rect(-0.62, 0.28, 0.62, 0.36, trim)
    for x in (-0.46, 0.46):
        pen.ellipse(x, 0.5, 0.09, 0.08, (255, 244, 200))
    pen.rect(-0.22, 0.44, 0.22, 0.54, tint(body, 0.4))
    pen.rect(-0.17, 0.6, 0.17, 0.7, WHITE)
    for side in (-1, 1):
        pen.line([(side * 0.58, -tall + 0.2), (side * 0.74, -tall + 0.3)], 0.04, BLACK)
        pen.rect(side * 0.76 - 0.06, -tall + 0.28, side * 0.76 + 0.06, -tall + 0.56, BLACK, rounding=0.03)


def car(pen: Pen) -> None:
    """A saloon, hatchback, estate or sports car from the side, or a car from the front or rear."""
    rng = pen.rng
    body = lacquer(rng)
    if rng.random() < 0.28:
        _car_front(pen, body)
        return
    roof = {"saloon": (-0.42, 0.28), "hatch": (-0.72, 0.22), "estate": (-0.88, 0.25), "sport": (-0.38, 0.1)}
    kind = str(rng.choice(list(roof)))
    back, front = roof[kind]
    high = -0.3 if kind == "sport" else rng.uniform(-0.48, -0.38)
    boot = (-0.98, -0.06) if kind in ("saloon", "sport") else (-1.0, -0.08)
    rear = back - (0.3 if kind in ("saloon", "sport") else 0.1)
    pen.blob([(-1.02, 0.2), (-1.03, 0.02), boot, (rear, -0.1), (back, high), (-0.1, high - 0.03),
              (front, high + 0.03), (front + 0.36, -0.1), (0.8, -0.04), (1.0, 0.04), (1.05, 0.2),
              (0.98, 0.27), (-0.98, 0.27)], body)
    pane = glass(rng)
    mid = (back + front) / 2 + 0.02
    pen.poly([(rear + 0.12, -0.09), (back + 0.05, high + 0.07), (mid - 0.02, high + 0.05),
              (mid - 0.02, -0.09)], pane)
    pen.poly([(mid + 0.03, -0.09), (mid + 0.03, high + 0.05), (front - 0.02, high + 0.08),
              (front + 0.27, -0.09)], pane)
    pen.hair([[(x, -0.08), (x - 0.02, 0.24)] for x in (mid, front + 0.28)], tint(body, 0.2))
    pen.line([(mid - 0.16, 0.0), (mid - 0.08, 0.0)], 0.025, tint(body, 0.4))
    pen.ellipse(0.97, 0.06, 0.07, 0.045, (250, 240, 200))
    pen.rect(-1.03, 0.0, -0.95, 0.08, (196, 26, 26))
    pen.line([(-1.02, 0.22), (1.03, 0.22)], 0.04, tint(body, 0.45))
    hub = hsv(0, 0, rng.uniform(0.45, 0.85))
    size = rng.uniform(0.17, 0.21)
    for x in (-0.6, 0.62):
        pen.ellipse(x, 0.24, size * 1.2, size * 1.2, tint(body, 0.25))
        wheel(pen, x, 0.26, size, hub)


def _car_front(pen: Pen, body: Colour) -> None:
    rng = pen.rng
    rear_view = rng.random() < 0.4
    lamp = (205, 28, 28) if rear_view else (255, 246, 205)
    for x in (-0.72, 0.46):
        pen.rect(x, 0.2, x + 0.26, 0.58, BLACK, rounding=0.05)
    pen.blob([(-0.5, -0.52), (0, -0.56), (0.5, -0.52), (0.68, -0.1), (0.8, 0.02), (0.82, 0.34),
              (0.74, 0.44), (0, 0.46), (-0.74, 0.44), (-0.82, 0.34), (-0.8, 0.02), (-0.68, -0.1)], body)
    pen.poly([(-0.45, -0.44), (0.45, -0.44), (0.6, -0.09), (-0.6, -0.09)], glass(rng))
    for side in (-1, 1):
        pen.ellipse(side * 0.58, 0.12, 0.16, 0.09, lamp, angle=-12 * side)
        pen.ellipse(side * 0.82, -0.1, 0.1, 0.06, tint(body, 0.8))
    if not rear_view:
        pen.rect(-0.34, 0.08, 0.34, 0.22, Paint(BLACK, (120, 120, 124), "band"), rounding=0.04)
    pen.line([(-0.74, 0.33), (0.74, 0.33)], 0.07, tint(body, 0.4))
    pen.rect(-0.2, 0.26, 0.2, 0.38, WHITE)
    pen.hair([[(-0.4, -0.05), (0.4, -0.05)]], tint(body, 0.2))


def motorbike(pen: Pen) -> None:
    """Two fat wheels, engine, tank, seat, fork and exhaust; bare, faired or with a wind screen."""
    rng = pen.rng
    paint, chrome = lacquer(rng), hsv(0.6, 0.05, rng.uniform(0.55, 0.85))
    cruiser = rng.random() < 0.45
    front, rear, radius = (0.72 if cruiser else 0.62, 0.35), (-0.62, 0.35), rng.uniform(0.3, 0.35)
    head = (0.34, -0.3)
    for x, y in (rear, front):
        pen.ellipse(x, y, radius, radius, hsv(0.6, 0.05, rng.uniform(0.07, 0.16)))
        pen.ellipse(x, y, radius * 0.62, radius * 0.62, tint(chrome, 0.75))
        pen.ring(x, y, radius * 0.36, 0.05, (60, 60, 62))
        for angle in np.arange(5) * 2 * np.pi / 5 + rng.uniform(0, 1):
            tip = (x + radius * 0.6 * np.cos(angle), y + radius * 0.6 * np.sin(angle))
            pen.line([(x, y), tip], 0.03, (48, 48, 50))
    pen.limb([(-0.1, 0.34), rear], (0.12, 0.07), tint(chrome, 0.6))
    pen.limb([head, (front[0] - 0.02, front[1])], (0.07, 0.06), chrome)
    pen.blob([(-0.28, 0.02), (0.25, 0.0), (0.28, 0.34), (0.1, 0.46), (-0.22, 0.44)],
             Paint(chrome, BLACK, "band"))
    pen.ellipse(-0.02, 0.3, 0.14, 0.12, tint(chrome, 0.85))
    pen.limb([(0.1, 0.42), (-0.35, 0.46), (-0.9, 0.4 if cruiser else 0.28)], (0.07, 0.09, 0.13), chrome)
    pen.blob([(-0.2, -0.1), (0.0, -0.32), (0.28, -0.34), (0.4, -0.2), (0.26, -0.02), (-0.12, 0.0)], paint)
    seat = hsv(0.06, rng.uniform(0, 0.5), rng.uniform(0.1, 0.3))
    pen.blob([(-0.1, -0.14), (-0.4, -0.16), (-0.78, -0.3 if not cruiser else -0.12), (-0.86, -0.22),
              (-0.6, -0.04), (-0.14, 0.0)], seat)
    pen.blob([(-0.5, -0.08), (-0.9, -0.2), (-1.02, -0.02), (-0.94, 0.06), (-0.7, 0.0)], paint)
    pen.blob([(front[0] - 0.3, 0.1), (front[0], 0.0), (front[0] + 0.28, 0.14), (front[0], 0.08)], paint)
    if not cruiser and rng.random() < 0.7:
        pen.blob([(0.12, 0.02), (0.28, -0.32), (0.52, -0.36), (0.72, -0.14), (0.5, 0.06), (0.3, 0.36),
                  (0.0, 0.4)], paint)
        pen.poly([(0.3, -0.36), (0.36, -0.56), (0.6, -0.32)], glass(rng))
    pen.ellipse(0.54 if not cruiser else 0.46, -0.22, 0.09, 0.1, (255, 244, 205))
    pen.line([head, (0.26, -0.5), (0.1, -0.48)], 0.05, BLACK)
    pen.ellipse(0.28, -0.58, 0.07, 0.05, BLACK)
    pen.rect(-1.04, -0.08, -0.97, 0.02, (206, 30, 30))
    pen.anchor("saddle", -0.24, -0.2)
    pen.anchor("grip", 0.12, -0.48)
    pen.anchor("pedal", 0.02, 0.4)


VEHICLES = {"aeroplane": aeroplane, "bicycle": bicycle, "boat": boat, "bus": bus, "car": car,
            "motorbike": motorbike}
