"""ToyCIFAR: ten of ToyVOC's classes as 32 × 32 images, in CIFAR-10's binary format."""

import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from toyvoc.scene import compose
from toyvoc.silhouettes import VOC_DRAWINGS
from voclab.data import cifar10
from voclab.errors import VoclabError
from voclab.files import make_folder, read_json, write_json

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bus", "car", "cat", "dog", "horse", "person")
MANIFEST = "toycifar.json"
_DRAWN = 64  # pixels; scenes are drawn at twice the size and averaged down
_BATCHES = 2  # training files, so that reading more than one is the default


def make_toycifar(
    root: str | os.PathLike, seed: int = 0, train: int = 3000, test: int = 1000, progress: bool = True
) -> Path:
    """Write ToyCIFAR below ``root/cifar-10-batches-bin``; returns ``root``.

    Each image shows one object of a class, and all classes are equally common. Image k depends on
    (seed, split, k) alone. ``root/toycifar.json`` is written last: the same call returns at once when it is
    there.

    Raises:
        VoclabError: ``root`` cannot be written, or holds what this function did not write.
    """
    root = Path(root)
    wanted = {"generator_version": 1, "seed": seed, "train": train, "test": test, "classes": list(CLASSES)}
    made = read_json(root / MANIFEST) if (root / MANIFEST).is_file() else None
    if made == wanted:
        return root
    folder = root / cifar10.BINARY
    ours = made is not None or cifar10.class_names(folder) == CLASSES
    others = [] if ours or not root.is_dir() else sorted(p for p in root.iterdir() if p.name[0] != ".")
    if others and not (others == [folder] and not any(folder.iterdir())):  # what a kill left is no one's
        raise VoclabError(
            f"{others[0]} was not made by ToyCIFAR and is left alone; move it or name another folder."
        )
    make_folder(folder)
    cifar10.write_class_names(folder, CLASSES)  # from here on the folder is ours to clear, also after a kill
    (root / MANIFEST).unlink(missing_ok=True)
    for old in folder.glob("*.bin"):
        old.unlink()
    bar = tqdm(total=train + test, desc="ToyCIFAR", unit="image", mininterval=1.0, disable=not progress)
    with bar:
        for split, count in (("train", train), ("test", test)):
            images, labels = np.empty((count, 32, 32, 3), np.uint8), np.arange(count) % len(CLASSES)
            for k in range(count):
                images[k] = _draw(seed, split, k, CLASSES[labels[k]])
                bar.update()
            files = (
                [f"data_batch_{b}" for b in range(1, _BATCHES + 1)] if split == "train" else ["test_batch"]
            )
            for name, part in zip(files, np.array_split(np.arange(count), len(files)), strict=True):
                cifar10.write_batch(folder / f"{name}.bin", images[part], labels[part])
    write_json(root / MANIFEST, wanted)
    return root


def _draw(seed: int, split: str, index: int, name: str) -> np.ndarray:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2000 + cifar10.SPLITS.index(split), index]))
    scene = compose(rng, VOC_DRAWINGS, (name,), _DRAWN, _DRAWN)
    return cv2.resize(scene.image, (cifar10.SIDE, cifar10.SIDE), interpolation=cv2.INTER_AREA)
