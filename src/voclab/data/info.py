"""Statistics of a data set: what a reader should know of it before believing a result on it."""

from collections.abc import Sequence

import numpy as np

from voclab.data.base import VOID, Dataset
from voclab.text import plain


def describe(dataset: Dataset, objects: Sequence[int] | None = None) -> dict:
    """Counts and shares, ready for JSON; decodes every mask (1.5 ms), or the image where there is none.

    Args:
        dataset: any.
        objects: objects in each image where somebody counted them (``voclab.data.count_objects``); a class
            mask cannot tell two touching objects of a class apart, so they are not guessed from it.

    Returns:
        ``name``, ``split``, ``task``, ``source``, ``images`` and ``masks`` (how many); ``classes``
        (images that show each class) and ``classes_per_image`` (min, mean, max), ``None`` without
        labels; ``objects_per_image`` (min, mean, max) or ``None``; ``width`` and ``height`` (min,
        median, max in pixels); ``background_share`` and ``void_share`` of all pixels, ``None`` without
        masks.
    """
    heights, widths, pixels = [], [], np.zeros(VOID + 1, np.int64)
    masks = 0
    for i in range(len(dataset)):
        mask = dataset.mask(i)
        if mask is not None:
            pixels += np.bincount(mask.ravel(), minlength=VOID + 1)
            masks += 1
        # A mask is as large as its image; both readers check that.
        height, width = (dataset.image(i) if mask is None else mask).shape[:2]
        heights.append(height)
        widths.append(width)
    labels = dataset.labels
    return {
        "name": dataset.name,
        "split": dataset.split,
        "task": dataset.task,
        "source": dataset.source,
        "images": len(dataset),
        "masks": masks,
        "classes": None
        if labels is None
        else dict(zip(dataset.class_names, labels.sum(0, dtype=int).tolist(), strict=True)),
        "classes_per_image": None if labels is None else _spread(labels.sum(1, dtype=int)),
        "objects_per_image": None if objects is None else _spread(objects),
        "width": _middle(widths),
        "height": _middle(heights),
        "background_share": float(pixels[0] / pixels.sum()) if masks else None,
        "void_share": float(pixels[VOID] / pixels.sum()) if masks else None,
    }


def _spread(values: Sequence[int]) -> dict:
    values = np.asarray(values)
    return {"min": int(values.min()), "mean": float(values.mean()), "max": int(values.max())}


def _middle(values: Sequence[int]) -> dict:
    values = np.asarray(values)
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}


def table(description: dict) -> str:
    """The result of :func:`describe` as plain text, one fact a line, classes last."""
    d = description
    unknown = "not known"
    per_image = "{min} to {max}, mean {mean:.2f}"
    pixels = "{min} to {max} pixels, median {median:g}"
    facts = [
        ("data", f"{d['name']} {d['split']} ({d['task']})"),
        ("source", d["source"]),
        ("images", str(d["images"])),
        ("masks", str(d["masks"])),
        ("width", pixels.format(**d["width"])),
        ("height", pixels.format(**d["height"])),
        (
            "classes per image",
            per_image.format(**d["classes_per_image"]) if d["classes_per_image"] else unknown,
        ),
        (
            "objects per image",
            per_image.format(**d["objects_per_image"]) if d["objects_per_image"] else unknown,
        ),
        (
            "background",
            unknown if d["background_share"] is None else f"{d['background_share']:.1%} of the pixels",
        ),
        ("void", unknown if d["void_share"] is None else f"{d['void_share']:.1%} of the pixels"),
    ]
    lines = [f"{name:<18} {value}" for name, value in facts]
    if d["classes"] is not None:
        counts = {plain(name).replace("\n", "\\n"): n for name, n in d["classes"].items()}
        width = max(18, *map(len, counts))
        lines += ["", f"{'class':<{width}} {'images':>6} {'share':>7}"]
        lines += [f"{name:<{width}} {n:>6} {n / d['images']:>7.1%}" for name, n in counts.items()]
    return "\n".join(lines) + "\n"
