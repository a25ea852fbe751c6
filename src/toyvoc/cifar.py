"""ToyCIFAR: ten of ToyVOC's classes as 32 × 32 images, in CIFAR-10's binary format."""

import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from toyvoc.base import TEMPORARY, read_json, require_ours, write, write_json
from toyvoc.scene import compose
from toyvoc.silhouettes import VOC_DRAWINGS

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bus", "car", "cat", "dog", "horse", "person")
MANIFEST, FOLDER, SIDE = "toycifar.json", "cifar-10-batches-bin", 32
_DRAWN = 64  # pixels; scenes are drawn at twice the size and averaged down
_FILES = {"train": ("data_batch_1", "data_batch_2"), "test": ("test_batch",)}


def make_toycifar(
    root: str | os.PathLike, seed: int = 0, train: int = 3000, test: int = 1000, progress: bool = True
) -> Path:
    """Write ToyCIFAR below ``root/cifar-10-batches-bin``; returns ``root``.

    Each image shows one object of a class, and all classes are equally common. Image k depends on
    (seed, split, k) alone. ``root/toycifar.json`` is written last: the same call returns at once when it is
    there.

    Raises:
        ToyError: ``root`` holds what this function did not write.
        OSError: ``root`` cannot be written.
    """
    root = Path(root)
    wanted = {"generator_version": 1, "seed": seed, "train": train, "test": test, "classes": list(CLASSES)}
    made = read_json(root / MANIFEST)
    if made == wanted:
        return root
    folder = root / FOLDER
    names = folder / "batches.meta.txt"
    named = names.is_file() and names.read_text(errors="replace").split() == [*CLASSES]
    if made is None and not named:
        require_ours(root, "ToyCIFAR", begun=folder)  # what a kill left
    write(names, "\n".join(CLASSES) + "\n")  # from here on the folder is ours to clear, also after a kill
    (root / MANIFEST).unlink(missing_ok=True)
    for old in (*folder.glob("*.bin"), *folder.glob(f"{TEMPORARY}*")):
        old.unlink()
    shown = {"unit": "image", "mininterval": 1.0, "leave": False, "disable": not progress}
    with tqdm(total=train + test, desc="ToyCIFAR", **shown) as bar:
        for split, count in (("train", train), ("test", test)):
            images, labels = np.empty((count, SIDE, SIDE, 3), np.uint8), np.arange(count) % len(CLASSES)
            for k in range(count):
                images[k] = _draw(seed, split, k, CLASSES[labels[k]])
                bar.update()
            planes = images.transpose(0, 3, 1, 2).reshape(count, -1)
            rows = np.concatenate([labels.astype(np.uint8)[:, None], planes], axis=1)
            for name, part in zip(_FILES[split], np.array_split(rows, len(_FILES[split]))):
                write(folder / f"{name}.bin", part.tobytes())
    write_json(root / MANIFEST, wanted)
    return root


def _draw(seed: int, split: str, index: int, name: str) -> np.ndarray:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2000 + [*_FILES].index(split), index]))
    scene = compose(rng, VOC_DRAWINGS, (name,), _DRAWN, _DRAWN)
    return cv2.resize(scene.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
