"""What is done to single images: resizing, rounding to 8 bits, JPEG, blur."""

import cv2
import numpy as np

GREY = 124  # the mean of ImageNet's pixels: what is covered with it says "nothing here"


def at_size(image: np.ndarray, size: int) -> np.ndarray:
    """The whole (H, W, 3) uint8 image at ``size`` × ``size`` (aspect ignored), uint8."""
    shrinks = image.shape[0] * image.shape[1] > size * size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """:func:`at_size` as float32 in [0, 1], as networks see it."""
    return at_size(image, size).astype(np.float32) / 255.0


def eight_bit(images: np.ndarray) -> np.ndarray:
    """Images as an 8-bit file keeps them: float32 multiples of 1/255. uint8 images are divided by 255."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        images = np.rint(255 * images)
    return images.astype(np.float32) / np.float32(255)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An (H, W, 3) uint8 RGB image after JPEG compression; ``quality`` from 1 to 100."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality)
    )
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def gaussian_blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (H, W) or (H, W, C) values, uint8 (then rounded) or float32; ``sigma`` in pixels.

    The border is mirrored. Weights beyond 3.5 sigma, less than 1/2000 in sum, are left out.
    """
    reach = round(3.5 * sigma)
    if reach < 1:
        return values.copy()
    kernel = cv2.getGaussianKernel(2 * reach + 1, sigma, cv2.CV_32F)
    # cv2.GaussianBlur would round the weights for 8-bit images to 1/256.
    return cv2.sepFilter2D(values, -1, kernel, kernel)
