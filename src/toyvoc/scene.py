"""Scenes of ToyVOC: which classes meet, where objects stand, and the light and noise over all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from toyvoc.background import SETTINGS, draw_background
from toyvoc.base import VOID
from toyvoc.silhouettes.pen import Pen, Pose, Sprite
from toyvoc.silhouettes.people import draw_person

Drawings = Mapping[str, Callable[[Pen], None]]

_FREQUENCY = {
    "aeroplane": 0.056, "bicycle": 0.050, "bird": 0.066, "boat": 0.054, "bottle": 0.058, "bus": 0.050,
    "car": 0.086, "cat": 0.070, "chair": 0.092, "cow": 0.038, "diningtable": 0.064, "dog": 0.072,
    "horse": 0.056, "motorbike": 0.054, "person": 0.285, "pottedplant": 0.057, "sheep": 0.036,
    "sofa": 0.068, "train": 0.056, "tvmonitor": 0.060,
}  # fmt: skip
"""In which share of the images a class is wanted: VOC2009's segmentation set, roughly."""

_TOGETHER = {
    ("horse", "person"): 0.018, ("bicycle", "person"): 0.017, ("motorbike", "person"): 0.016,
    ("car", "person"): 0.013, ("chair", "person"): 0.010, ("dog", "person"): 0.010, ("sofa", "person"): 0.009,
    ("diningtable", "person"): 0.008, ("bottle", "person"): 0.008, ("tvmonitor", "person"): 0.008,
    ("boat", "person"): 0.006, ("bus", "person"): 0.006, ("pottedplant", "person"): 0.006,
    ("train", "person"): 0.005, ("cow", "person"): 0.005, ("cat", "person"): 0.005,
    ("aeroplane", "person"): 0.004, ("sheep", "person"): 0.003, ("bird", "person"): 0.003,
    ("diningtable", "chair"): 0.012, ("chair", "tvmonitor"): 0.010, ("chair", "sofa"): 0.010,
    ("bus", "car"): 0.010, ("diningtable", "bottle"): 0.008, ("sofa", "tvmonitor"): 0.006,
    ("sofa", "dog"): 0.006, ("sofa", "cat"): 0.006, ("chair", "pottedplant"): 0.006,
    ("sofa", "pottedplant"): 0.006, ("cat", "pottedplant"): 0.005, ("bicycle", "car"): 0.005,
    ("bottle", "tvmonitor"): 0.004, ("boat", "bird"): 0.004, ("car", "motorbike"): 0.004,
    ("bottle", "chair"): 0.004, ("cat", "tvmonitor"): 0.004, ("sheep", "dog"): 0.003, ("car", "dog"): 0.003,
    ("train", "car"): 0.003, ("aeroplane", "car"): 0.003, ("cow", "bird"): 0.003,
    ("diningtable", "chair", "person"): 0.014, ("diningtable", "bottle", "person"): 0.008,
    ("bus", "car", "person"): 0.006, ("bicycle", "person", "car"): 0.005,
    ("chair", "sofa", "tvmonitor"): 0.005, ("diningtable", "chair", "pottedplant"): 0.005,
    ("sofa", "person", "tvmonitor"): 0.004, ("motorbike", "person", "car"): 0.004,
    ("horse", "person", "dog"): 0.003, ("sofa", "person", "dog"): 0.003,
    ("sofa", "cat", "pottedplant"): 0.003, ("chair", "bottle", "tvmonitor"): 0.003,
}  # fmt: skip
"""Shares of the images in which classes meet; images of one class fill each class up to its frequency."""

_OUTSIDE = {
    "aeroplane", "bicycle", "bird", "boat", "bus", "car", "cow", "horse", "motorbike", "sheep", "train",
}  # fmt: skip
_INSIDE = {"bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor"}
_FLYING = {"aeroplane", "bird"}
_IN_GROUPS = {
    "sheep": 0.3, "cow": 0.24, "bird": 0.24, "bottle": 0.24, "boat": 0.21, "car": 0.21, "chair": 0.21,
    "person": 0.21,
}  # fmt: skip
"""How likely a class has one more object of its kind (drawn twice); 0.06 for the others."""

_METRES = {  # the size of a drawing's unit, for objects that touch each other
    "horse": 1.3, "bicycle": 0.95, "motorbike": 1.05, "chair": 0.55, "sofa": 1.0, "diningtable": 0.85,
    "person": 1.0, "bottle": 0.24, "dog": 0.75, "cat": 0.6, "pottedplant": 0.4,
}  # fmt: skip


@dataclass(frozen=True)
class _Tie:
    """How an object joins another: its own point put on the other's anchor, in front of or behind it."""

    anchor: str
    probability: float
    person: str | None = None
    behind: bool = False


_TIES = {
    ("horse", "person"): _Tie("saddle", 0.85, "ride"),
    ("bicycle", "person"): _Tie("saddle", 0.75, "ride"),
    ("motorbike", "person"): _Tie("saddle", 0.75, "ride"),
    ("chair", "person"): _Tie("seat", 0.5, "sit"),
    ("sofa", "person"): _Tie("seat", 0.65, "squat_front"),
    ("sofa", "cat"): _Tie("seat", 0.65),
    ("sofa", "dog"): _Tie("seat", 0.65),
    ("diningtable", "bottle"): _Tie("top", 0.7),
    ("diningtable", "pottedplant"): _Tie("top", 0.4),
    ("diningtable", "person"): _Tie("top", 0.7, "stand", behind=True),
    ("diningtable", "chair"): _Tie("top", 0.6, behind=True),
}


@dataclass(frozen=True)
class SceneObject:
    """One annotated object: class index, visible box (x0, y0, x1, y1; pixels, ends excluded), VOC's flags."""

    label: int
    box: tuple[int, int, int, int]
    truncated: bool
    occluded: bool


@dataclass(frozen=True)
class Scene:
    """An image (h, w, 3) uint8 RGB, its mask (h, w) uint8 (0 background, class + 1, 255 void), objects."""

    image: np.ndarray
    mask: np.ndarray
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class _Item:
    """A sprite of a class at (x, y) pixels."""

    name: str
    sprite: Sprite
    x: int
    y: int


@lru_cache(maxsize=1)
def _recipes() -> tuple[list[tuple[str, ...]], np.ndarray]:
    """All sets of classes that make an image, and the cumulative shares of these sets."""
    alone = {
        name: share - sum(p for names, p in _TOGETHER.items() if name in names)
        for name, share in _FREQUENCY.items()
    }
    table = {(name,): share for name, share in alone.items()} | _TOGETHER
    shares = np.array(list(table.values()))
    if shares.min() <= 0:
        raise ValueError("A class meets others more often than it is wanted.")
    return list(table), np.cumsum(shares / shares.sum())


def voc_classes_of(seed: int, split: int, index: int) -> tuple[str, ...]:
    """The classes in image ``index``.

    The images of a split walk through the recipes in golden-ratio steps, which fill the unit interval
    evenly: even a few dozen images have nearly the wanted class frequencies.
    """
    names, cumulative = _recipes()
    start = np.random.default_rng(np.random.SeedSequence([seed, split])).random()
    return names[int(np.searchsorted(cumulative, (start + index * 0.6180339887498949) % 1.0, side="right"))]


def _pose(rng: np.random.Generator, spread: float) -> Pose:
    return Pose(
        rotation=float(np.clip(rng.normal(0, spread), -25, 25)),
        flip=bool(rng.random() < 0.5),
        stretch=float(rng.uniform(0.88, 1.13)),
        shear=float(rng.uniform(-0.12, 0.12)),
        taper=float(rng.uniform(-0.13, 0.13)),
        bend=float(rng.uniform(-0.08, 0.08)),
    )


def _group(
    rng: np.random.Generator,
    drawings: Drawings,
    names: Sequence[str],
    extent: float,
    limit: tuple[float, float],
) -> list[_Item]:
    """The first of ``names`` drawn with the given extent, and the others tied to it, back to front."""
    pose = _pose(rng, 9.0 if len(names) == 1 else 5.0)
    needed = {_TIES[names[0], name].anchor for name in names[1:]}
    pen = Pen(rng)
    drawings[names[0]](pen)
    while not needed <= pen.anchors:  # a portrait of a horse has no saddle
        pen = Pen(rng)
        drawings[names[0]](pen)
    parent = pen.render(pose, limit, extent=extent)
    items = [_Item(names[0], parent, 0, 0)]
    for name in names[1:]:
        tie = _TIES[names[0], name]
        pen = Pen(rng)
        if tie.person:
            draw_person(pen, tie.person)
        else:
            drawings[name](pen)
        scale = parent.scale * _METRES[name] / _METRES[names[0]] * rng.uniform(0.9, 1.12)
        own = replace(pose, rotation=pose.rotation * 0.8 + rng.normal(0, 3), bend=0.0, taper=0.0)
        child = pen.render(own, (limit[0] * 1.5, limit[1] * 1.5), scale=scale)
        height, width = child.rgba.shape[:2]
        at = parent.anchors[tie.anchor]
        if tie.behind:
            x = parent.rgba.shape[1] * rng.uniform(0.1, 0.9) - width / 2
            y = at[1] - height * rng.uniform(0.55, 0.72)
        else:
            point = child.anchors.get("seat") if tie.person else (width / 2, height - 3)
            x, y = at[0] - point[0], at[1] - point[1]
        item = _Item(name, child, round(x), round(y))
        items.insert(0, item) if tie.behind else items.append(item)
    return items


def _lit(rng: np.random.Generator, sprite: Sprite, light: np.ndarray) -> np.ndarray:
    """The sprite's colours with the light of the scene on its rounded outline: (h, w, 3) float32."""
    rgba = sprite.rgba
    reach = max(1.5, 0.06 * float(np.sqrt(rgba.shape[0] * rgba.shape[1])))
    soft = cv2.blur(rgba[..., 3], (2 * round(1.7 * reach) + 1,) * 2).astype(np.float32) / 255.0
    shift = np.float32([[1, 0, light[0] * reach], [0, 1, light[1] * reach]])
    away = cv2.warpAffine(soft, shift, soft.shape[::-1], borderMode=cv2.BORDER_CONSTANT)
    gain = (soft - away) * rng.uniform(0.4, 1.1) + rng.uniform(0.82, 1.12)
    return rgba[..., :3].astype(np.float32) * gain[..., None]


def _windows(item: _Item, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the image that the sprite covers, and the part of the sprite that is in the image."""
    h, w = item.sprite.rgba.shape[:2]
    x0, y0, x1, y1 = max(item.x, 0), max(item.y, 0), min(item.x + w, width), min(item.y + h, height)
    x1, y1 = max(x1, x0), max(y1, y0)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - item.y, y1 - item.y), slice(x0 - item.x, x1 - item.x))


def _stamp(instances: np.ndarray, item: _Item, number: int) -> None:
    inside, part = _windows(item, instances.shape[1], instances.shape[0])
    instances[inside][item.sprite.rgba[part][..., 3] >= 128] = number


def _fits(items: Sequence[_Item], width: int, height: int, visible: float) -> np.ndarray | None:
    """The instance map (0 none, item + 1) if enough of every item is seen; ``None`` otherwise."""
    instances = np.zeros((height, width), np.uint8)
    for number, item in enumerate(items, start=1):
        _stamp(instances, item, number)
    seen = np.bincount(instances.ravel(), minlength=len(items) + 1)[1:]
    whole = np.array([np.count_nonzero(item.sprite.rgba[..., 3] >= 128) for item in items])
    least = 0.006 * width * height
    return instances if np.all((seen >= visible * whole) & (seen >= least)) else None


def _arrange(
    rng: np.random.Generator, drawings: Drawings, names: Sequence[str], width: int, height: int
) -> tuple[list[_Item], np.ndarray]:
    """Items back to front and their instance map; tries again, smaller, until all are well seen."""
    for attempt in range(40):
        shrink = 0.96**attempt
        free, groups = list(names), []
        while free:
            group = [free.pop(0)]
            for name in list(free):
                tie = _TIES.get((group[0], name))
                if tie and rng.random() < tie.probability:
                    group.append(name)
                    free.remove(name)
            groups.append(group)
        for name in names:
            for _ in range(2):
                if rng.random() < _IN_GROUPS.get(name, 0.06):
                    groups.append([name])
        side = np.sqrt(width * height) * shrink / len(groups) ** 0.42
        items: list[_Item] = []
        for group in groups:
            extent = side * rng.triangular(0.31, 0.82, 1.16) * (0.85 if len(group) > 1 else 1.0)
            made = _group(rng, drawings, group, extent, (width * 1.1 * shrink, height * 1.1 * shrink))
            placed = _place(rng, made, items, width, height)
            if placed is None:
                break
            items = placed
        else:
            return items, _fits(items, width, height, 0.0)
    raise RuntimeError(f"No arrangement of {names} was found.")


def _place(
    rng: np.random.Generator, group: list[_Item], items: list[_Item], width: int, height: int
) -> list[_Item] | None:
    """``items`` with ``group`` where everything is well seen; ``None`` if no such place was found."""
    left, top = min(i.x for i in group), min(i.y for i in group)
    right = max(i.x + i.sprite.rgba.shape[1] for i in group)
    bottom = max(i.y + i.sprite.rgba.shape[0] for i in group)
    w, h = right - left, bottom - top
    for _ in range(10):
        out = 0.3 if rng.random() < 0.25 else 0.06  # now and then cut by the border of the image
        x = rng.uniform(-out * w, max(width - w + out * w, -out * w + 1))
        lowest = height - h + out * h
        y = rng.uniform(-out * h, max(lowest, -out * h + 1))
        if group[0].name not in _FLYING and lowest > 0:
            y = lowest - (lowest - y) * rng.uniform(0.0, 0.8)  # most things stand on the ground
        moved = [replace(i, x=round(i.x - left + x), y=round(i.y - top + y)) for i in group]
        together = [*items, *moved] if rng.random() < 0.7 else [*moved, *items]
        if _fits(together, width, height, 0.5) is not None:
            return together
    return None


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Uneven light, colour cast, contrast, blur and sensor noise over a (h, w, 3) float32 image."""
    height, width = image.shape[:2]
    corners = rng.uniform(0.8, 1.25, (2, 2)).astype(np.float32)
    image *= cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    if rng.random() < 0.2:  # pale, or nearly black and white
        grey = image.mean(axis=2, keepdims=True)
        image = grey + (image - grey) * np.float32(rng.uniform(0.1, 0.6))
    contrast, middle = rng.uniform(0.76, 1.18), rng.uniform(114, 150)
    cast = rng.uniform(0.9, 1.1, 3).astype(np.float32)
    image = (image - 127.5) * np.float32(contrast) * cast + np.float32(middle) * cast
    blur = rng.uniform(0.0, 0.95)
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    image += rng.standard_normal((height, width, 1 if rng.random() < 0.4 else 3), np.float32) * np.float32(
        rng.uniform(1, 8)
    )
    return np.clip(image, 0, 255).astype(np.uint8)


def void_border(instances: np.ndarray) -> np.ndarray:
    """Where masks are void: two pixels along every contour; parts too thin for that keep their label."""
    kernel = np.ones((3, 3), np.uint8)
    contour = cv2.dilate(instances, kernel) != cv2.erode(instances, kernel)
    for number in range(1, int(instances.max()) + 1):
        own = (instances == number).astype(np.uint8)
        contour &= own <= cv2.morphologyEx(own, cv2.MORPH_OPEN, kernel)
    return contour


def compose(
    rng: np.random.Generator, drawings: Drawings, names: Sequence[str], width: int, height: int
) -> Scene:
    """A scene with objects of the classes ``names``; mask values follow the order of ``drawings``."""
    outside = np.mean([(n in _OUTSIDE) - (n in _INSIDE) for n in names])
    share = np.array([0.36 + 0.14 * outside, 0.36 - 0.14 * outside, 0.28])
    image = draw_background(rng, width, height, SETTINGS[rng.choice(3, p=share)]).astype(np.float32)
    items, instances = _arrange(rng, drawings, names, width, height)
    angle = rng.uniform(-np.pi, 0) if rng.random() < 0.85 else rng.uniform(0, np.pi)
    light = -np.array([np.cos(angle), np.sin(angle)])
    for item in items:
        _shadow(rng, image, item)
        inside, part = _windows(item, width, height)
        alpha = item.sprite.rgba[part][..., 3:].astype(np.float32) / 255.0
        image[inside] += _lit(rng, item.sprite, light)[part] - image[inside] * alpha
    order = {name: k for k, name in enumerate(drawings)}
    labels = np.array([0] + [order[item.name] + 1 for item in items], np.uint8)
    mask = labels[instances]
    mask[void_border(instances)] = VOID
    objects = tuple(_describe(item, instances == number, order) for number, item in enumerate(items, start=1))
    return Scene(_photograph(rng, image), mask, objects)


def _shadow(rng: np.random.Generator, image: np.ndarray, item: _Item) -> None:
    if item.name in _FLYING or rng.random() < 0.3:
        return
    h, w = item.sprite.rgba.shape[:2]
    layer = np.zeros(image.shape[:2], np.uint8)
    centre = (int(item.x + w * rng.uniform(0.45, 0.55)), int(item.y + h * 0.97))
    cv2.ellipse(layer, centre, (max(2, int(w * 0.46)), max(2, int(h * 0.06))), 0, 0, 360, 255, -1)
    layer = cv2.blur(layer, (2 * max(1, round(0.05 * w)) + 1, 5))
    image *= 1.0 - layer[..., None] * np.float32(rng.uniform(0.2, 0.6) / 255.0)


def _describe(item: _Item, seen: np.ndarray, order: Mapping[str, int]) -> SceneObject:
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    body = item.sprite.rgba[..., 3] >= 128
    _, part = _windows(item, seen.shape[1], seen.shape[0])
    in_image = int(np.count_nonzero(body[part]))
    return SceneObject(
        label=order[item.name],
        box=box,
        truncated=in_image < int(np.count_nonzero(body)),
        occluded=int(np.count_nonzero(seen)) < in_image,
    )
