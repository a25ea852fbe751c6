"""Perturbations and corruptions, one by one, against albumentations and imagecorruptions."""

import sys
from collections.abc import Callable

import albumentations as A
import common
import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from toyvoc.voc import toyvoc_scene
from voclab.corruptions import CONSISTENCY, CORRUPTIONS, SEVERITIES, corrupted, perturbed

TARGET = 1.0  # no slower
SHAPES = ((224, 224), (375, 500))
SMALL = (32, 32)
IMAGES = 20  # of one call of a perturbation: a single one is too short to time

WHAT = (
    "Drawn images (ToyVOC's scenes) as uint8. A perturbation is called on 20 images in turn, with the"
    " strength of the consistency study; albumentations as a single transform with p=1 and the same strength."
    " A corruption is called on one image at its five severities with ImageNet's parameters; numba has"
    " compiled by then, and our frost is drawn. OpenCV and BLAS have one thread each, in all packages. Our"
    " calls check the image and make a random generator from its seed, as in the studies."
)
NOTES = (
    "Flips, Gaussian blur, JPEG and rotation spend their time in the same functions of OpenCV and "
    "libjpeg-turbo on both sides. The linear transforms of albumentations look bytes up in a table, which "
    "cannot keep the hue. Once in a process: a drawing of ice takes up to 40 ms for images up to 256 pixels "
    "and 230 ms up to 512, five are needed."
)


class Quarter(A.RandomRotate90):
    """The rotation by 90° that albumentations otherwise draws among four."""

    def get_params(self) -> dict[str, int]:
        return {"factor": 1}


# With the strengths of CONSISTENCY. A radius of defocus is a whole number there; this is the next lower one.
THEIRS: dict[str, A.BasicTransform] = {
    "more brightness": A.HueSaturationValue((0, 0), (0, 0), (51, 51), p=1),
    "more contrast": A.ColorJitter((1, 1), (1.5, 1.5), (1, 1), (0, 0), p=1),
    "Gaussian blur": A.GaussianBlur(0, (1.5, 1.5), p=1),
    "defocus blur": A.Defocus((2, 2), (0.1, 0.1), p=1),
    "fog": A.RandomFog(fog_coef_range=(0.5, 0.5), p=1),
    "rotation by 90°": Quarter(p=1),
    "horizontal flip": A.HorizontalFlip(p=1),
    "vertical flip": A.VerticalFlip(p=1),
    "random noise": A.GaussNoise((0.1, 0.1), p=1),
    "salt-and-pepper": A.SaltAndPepper((0.05, 0.05), (0.5, 0.5), p=1),
}
LINEAR = {  # cheaper transforms of another meaning
    "more brightness": (
        A.RandomBrightnessContrast((0.2, 0.2), (0, 0), p=1),
        "Theirs adds the same to red, green and blue, which changes hue and saturation; ours keeps them.",
    ),
    "more contrast": (
        A.RandomBrightnessContrast((0, 0), (0.5, 0.5), p=1),
        "Theirs multiplies by 1.5, which also makes the image lighter; ours keeps the mean.",
    ),
}
REMARKS = {
    "fog": "Theirs draws circles; ours is ImageNet-C's fractal cloud.",
    "rotation by 90°": "Where an image is not square theirs turns the frame; ours keeps it and interpolates.",
    "more contrast": "About the mean of the grey image there, about each channel's mean here.",
}


def images(count: int, shape: tuple[int, int]) -> list[np.ndarray]:
    """Drawn images, (H, W, 3) uint8: scenes of twice the size, shrunk and cut to the shape."""
    found = []
    for k in range(count):
        image = toyvoc_scene(0, "train", k, 2 * max(shape)).image
        scale = max(shape[0] / image.shape[0], shape[1] / image.shape[1])
        height, width = (max(n, round(scale * m)) for n, m in zip(shape, image.shape))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        found.append(np.ascontiguousarray(image[: shape[0], : shape[1]]))
    return found


def each(images: list[np.ndarray], call: Callable) -> Callable[[], None]:
    def run() -> None:
        for k, image in enumerate(images):
            call(image, k)

    return run


def ours(title: str) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda image, k: perturbed(image, *CONSISTENCY[title], (0, k))


def albumentations_way(transform: A.BasicTransform) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda image, k: transform(image=image)["image"]


def changes(images: list[np.ndarray], call: Callable) -> float:
    """Root of the mean squared difference to the images."""
    after = [call(image, k) for k, image in enumerate(images)]
    return float(np.sqrt(np.mean((np.float32(after) - np.float32(images)) ** 2)))


def perturbation(title: str, images: list[np.ndarray], size: str) -> common.Case:
    calls = {"voclab": ours(title), "albumentations": albumentations_way(THEIRS[title])}
    height, width = images[0].shape[:2]
    if title != "fog" and height == width:  # their rotation turns the frame, too
        found = [changes(images, call) for call in calls.values()]
        assert 0.75 < found[0] / found[1] < 1.33, f"{title} is not the same thing: {found}"
    seconds = common.timed({name: each(images, call) for name, call in calls.items()})
    note = REMARKS.get(title, "")
    return common.Case(f"{title}, {size}", seconds, len(images), "image", target=TARGET, note=note)


def corruption_ways(names, images: list[np.ndarray]) -> dict[str, Callable]:
    from imagecorruptions import corrupt

    runs = [(name, severity) for name in names for severity in SEVERITIES]
    return {
        "voclab": each(images, lambda x, k: [corrupted(x, name, s, (0, k), "imagenet") for name, s in runs]),
        "imagecorruptions": each(images, lambda x, k: [corrupt(x, s, name) for name, s in runs]),
    }


def small_cases(compared: bool) -> list[common.Case]:
    """At CIFAR-10's size what a call costs beside the work on pixels; fog would hide all else."""
    changed, titles = images(IMAGES, SMALL), [title for title in CONSISTENCY if title != "fog"]
    ways = {
        "voclab": lambda: [each(changed, ours(title))() for title in titles],
        "albumentations": lambda: [each(changed, albumentations_way(THEIRS[t]))() for t in titles],
    }
    nine = common.Case("the ten without fog, 32 × 32", common.timed(ways), 9 * IMAGES, "image")
    if not compared:
        return [nine]
    seconds = common.timed(corruption_ways(CORRUPTIONS, changed[:2]))
    return [nine, common.Case("all corruptions, 32 × 32, five severities", seconds, 150, "image")]


def one_thread() -> None:
    cv2.setNumThreads(1)
    threadpool_limits(1)


def grown(factor: int):
    one_thread()
    changed = images(4 * factor, SHAPES[0])

    def all_corruptions() -> None:
        for k, image in enumerate(changed):
            for name in CORRUPTIONS:
                corrupted(image, name, 3, (0, k))

    return all_corruptions, len(changed)


def measure(quick: bool) -> common.Report:
    one_thread()
    compared = common.version("imagecorruptions-imaug") is not None
    cases = []
    for shape in [(64, 64)] if quick else SHAPES:
        size = "{} × {}".format(*shape)
        changed = images(2 if quick else IMAGES, shape)
        cases += [perturbation(title, changed, size) for title in CONSISTENCY]
        for title, (transform, note) in LINEAR.items():
            ways = {
                "voclab": each(changed, ours(title)),
                "albumentations": each(changed, albumentations_way(transform)),
            }
            seconds = common.timed(ways)
            cases.append(common.Case(f"{title} in a line, {size}", seconds, len(changed), "image", note=note))
        for name in CORRUPTIONS if compared else ():
            seconds = common.timed(corruption_ways([name], changed[:1]), 1 if quick else common.REPETITIONS)
            cases.append(common.Case(f"{name}, {size}, five severities", seconds, 5, "image", target=TARGET))
    return common.Report(
        "perturbations",
        "Perturbations and corruptions",
        WHAT,
        cases if quick else cases + small_cases(compared),
        [] if quick else [common.growth("corruptions: all fifteen at severity 3", "images", grown)],
        ("opencv-python-headless", "albumentations", "imagecorruptions-imaug", "numba"),
        NOTES,
    )


if __name__ == "__main__":
    sys.exit(common.main(measure, __doc__))
