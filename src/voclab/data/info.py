"""Statistics of a data set: what a reader should know of it before believing a result on it."""

from collections.abc import Callable, Sequence

import numpy as np

from voclab.data.base import VOID, Dataset
from voclab.text import plain


def describe(dataset: Dataset, objects: Sequence[int] | None = None) -> dict:
    """Counts and shares, ready for JSON; decodes every mask (4 ms), or the image where there is none.

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
    heights, widths, masks, pixels = [], [], 0, np.zeros(VOID + 1, np.int64)
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
        "width": _spread(widths, np.median),
        "height": _spread(heights, np.median),
        "background_share": float(pixels[0] / pixels.sum()) if masks else None,
        "void_share": float(pixels[VOID] / pixels.sum()) if masks else None,
    }


def _spread(values: Sequence[int], middle: Callable = np.mean) -> dict:
    name = middle.__name__
    return {"min": int(np.min(values)), name: float(middle(values)), "max": int(np.max(values))}


def table(description: dict) -> str:
    """The result of :func:`describe` as plain text, one fact a line, classes last."""
    d = description

    def told(template: str, value) -> str:
        return "not known" if value is None else template.format(value)

    pixels = "{0[min]} to {0[max]} pixels, median {0[median]:g}"
    per_image = "{0[min]} to {0[max]}, mean {0[mean]:.2f}"
    facts = [
        ("data", f"{d['name']} {d['split']} ({d['task']})"),
        ("source", d["source"]),
        ("images", d["images"]),
        ("masks", d["masks"]),
        ("width", told(pixels, d["width"])),
        ("height", told(pixels, d["height"])),
        ("classes per image", told(per_image, d["classes_per_image"])),
        ("objects per image", told(per_image, d["objects_per_image"])),
        ("background", told("{:.1%} of the pixels", d["background_share"])),
        ("void", told("{:.1%} of the pixels", d["void_share"])),
    ]
    lines = [f"{name:<18} {value}" for name, value in facts]
    if d["classes"] is not None:
        counts = {plain(name).replace("\n", "\\n"): n for name, n in d["classes"].items()}
        width = max(18, *map(len, counts))
        lines += ["", f"{'class':<{width}} {'images':>6} {'share':>7}"]
        lines += [f"{name:<{width}} {n:>6} {n / d['images']:>7.1%}" for name, n in counts.items()]
    return "\n".join(lines) + "\n"
