"""Perturbations and corruptions, one by one, against albumentations and imagecorruptions."""

import sys
from collections.abc import Callable

import albumentations as A
import common
import cv2
import numpy as np

from voclab.datasets.toyvoc import toyvoc_scene
from voclab.robustness import CONSISTENCY, CORRUPTIONS, SEVERITIES, corrupted, perturbed

TARGET = 2.0
THREADS = 1  # of OpenCV, on which all three packages stand
SHAPES = ((224, 224), (375, 500))
SMALL = (32, 32)
PHOTOS = 20  # of one call of a perturbation; a single call is too short to time


class Quarter(A.RandomRotate90):
    """The rotation by 90° that albumentations otherwise draws among four."""

    def get_params(self) -> dict[str, int]:
        return {"factor": 1}


# Like CONSISTENCY, title by title. The radius of a defocus is whole there; the smaller neighbour is cheaper.
ALBUMENTATIONS: dict[str, dict[str, A.BasicTransform]] = {
    "more brightness": {
        "albumentations": A.HueSaturationValue((0, 0), (0, 0), (51, 51), p=1),
        "albumentations, linear": A.RandomBrightnessContrast((0.2, 0.2), (0, 0), p=1),
    },
    "more contrast": {
        "albumentations": A.ColorJitter((1, 1), (1.5, 1.5), (1, 1), (0, 0), p=1),
        "albumentations, linear": A.RandomBrightnessContrast((0, 0), (0.5, 0.5), p=1),
    },
    "Gaussian blur": {"albumentations": A.GaussianBlur(0, (1.5, 1.5), p=1)},
    "defocus blur": {"albumentations": A.Defocus((2, 2), (0.1, 0.1), p=1)},
    "fog": {"albumentations": A.RandomFog(fog_coef_range=(0.5, 0.5), p=1)},
    "rotation by 90°": {"albumentations": Quarter(p=1)},
    "horizontal flip": {"albumentations": A.HorizontalFlip(p=1)},
    "vertical flip": {"albumentations": A.VerticalFlip(p=1)},
    "random noise": {"albumentations": A.GaussNoise((0.1, 0.1), p=1)},
    "salt-and-pepper": {"albumentations": A.SaltAndPepper((0.05, 0.05), (0.5, 0.5), p=1)},
}


def photos(count: int, shape: tuple[int, int]) -> list[np.ndarray]:
    """Drawn photos, (H, W, 3) uint8: ToyVOC's scenes, larger, and cut to the shape."""
    found = []
    for k in range(count):
        image = toyvoc_scene(0, "train", k, 2 * max(shape)).image
        side = max(shape[0] / image.shape[0], shape[1] / image.shape[1])
        size = [max(n, round(side * m)) for n, m in zip(shape, image.shape[:2])]
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        found.append(np.ascontiguousarray(image[: shape[0], : shape[1]]))
    return found


def each(images: list[np.ndarray], call: Callable) -> Callable[[], list[np.ndarray]]:
    return lambda: [call(image, k) for k, image in enumerate(images)]


def perturbations(title: str, images: list[np.ndarray]) -> dict[str, Callable]:
    setting = CONSISTENCY[title]
    ways = {"voclab": each(images, lambda image, k: perturbed(image, *setting, (0, k)))}
    for name, transform in ALBUMENTATIONS[title].items():
        ways[name] = each(images, lambda image, k, t=transform: t(image=image)["image"])
    return ways


def corruptions(name: str, images: list[np.ndarray]) -> dict[str, Callable]:
    from imagecorruptions import corrupt

    return {
        "voclab": each(images, lambda image, k: [corrupted(image, name, s, (0, k)) for s in SEVERITIES]),
        "imagecorruptions": each(images, lambda image, k: [corrupt(image, s, name) for s in SEVERITIES]),
    }


def grown(factor: int):
    images = photos(2 * factor, SHAPES[0])
    cv2.setNumThreads(THREADS)
    return lambda: [corrupted(x, name, 3, k) for k, x in enumerate(images) for name in CORRUPTIONS], len(
        images
    )


def measure(quick: bool) -> common.Report:
    cv2.setNumThreads(THREADS)
    cases = []
    for shape in SHAPES[:1] if quick else SHAPES:
        size = "{} × {}".format(*shape)
        images = photos(2 if quick else PHOTOS, shape)
        for title in CONSISTENCY:
            ways = perturbations(title, images)
            cases.append(
                common.Case(f"{title}, {size}", common.timed(ways), len(images), "photo", target=TARGET)
            )
        for name in CORRUPTIONS if common.version("imagecorruptions-imaug") else ():
            ways = corruptions(name, images[:1])
            seconds = common.timed(ways, 1 if quick else common.REPETITIONS)
            cases.append(common.Case(f"{name}, {size}, five severities", seconds, 5, "photo", target=TARGET))
    return common.Report(
        "perturbations",
        "Perturbations and corruptions",
        "x",
        cases,
        [],
        ("opencv-python-headless", "albumentations", "imagecorruptions-imaug", "numba"),
    )


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
