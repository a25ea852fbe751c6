"""Texture tiles: single-channel patterns (fur, wool, wood ...) that paints run two colours through."""

from functools import lru_cache

import cv2
import numpy as np

WINDOW = 512  # side of a repeating tile; smaller tiles are stretched over the part instead


def _stretch(values: np.ndarray, sharpness: float = 2.0) -> np.ndarray:
    """Any real field as uint8, centred at mid grey and clipped at ``2 / sharpness`` deviations."""
    values = (values - values.mean()) / (values.std() + 1e-9)
    return np.clip(127.5 + values * (64.0 * sharpness / 2.0), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, sx: float, sy: float) -> np.ndarray:
    field = rng.standard_normal((WINDOW, WINDOW)).astype(np.float32)
    return cv2.GaussianBlur(field, (0, 0), sigmaX=sx, sigmaY=sy)


@lru_cache(maxsize=1)
def tile_bank() -> dict[str, np.ndarray]:
    """All tiles by name, always the same ones: square uint8 arrays."""
    rng = np.random.default_rng(20090511)
    y, x = np.mgrid[0:WINDOW, 0:WINDOW].astype(np.float32)
    wave = _noise(rng, 12, 12)
    wave /= wave.std()
    bank = {
        "grain": _stretch(_noise(rng, 0.8, 0.8)),
        "fur": _stretch(_noise(rng, 5, 1.0) + 0.5 * _noise(rng, 1.5, 1.0)),
        "hair": _stretch(_noise(rng, 1.0, 6.0)),
        "wool": _stretch(-np.abs(_noise(rng, 2.6, 2.6)) + 0.4 * np.abs(_noise(rng, 1.4, 1.4)), 2.2),
        "blotch": _stretch(_noise(rng, 14, 14) / 0.02 + _noise(rng, 4, 4) / 0.2),
        "patch": _stretch(_noise(rng, 17, 13), 14.0),
        "speckle": _stretch(_noise(rng, 2.2, 2.2), 6.0),
        "tabby": _stretch(np.sin(x / 3.4 + 1.3 * wave) + 0.3 * _noise(rng, 2, 2), 2.0),
        "stripe": _stretch(np.sin(x / 3.0), 6.0),
        "band": _stretch(np.sin(y / 4.2), 6.0),
        "pinstripe": _stretch(np.maximum(np.sin(x / 2.2), 0.2), 2.0),
        "check": _stretch(np.sin(x / 3.6) * np.sin(y / 3.6), 3.0),
        "plaid": _stretch(np.sin(x / 3.2) + np.sin(y / 3.2), 2.4),
        "dots": _stretch(np.sin(x / 2.9) * np.sin(y / 2.9) - 0.45, 6.0),
        "diagonal": _stretch(np.sin((x + y) / 4.6), 6.0),
        "wood": _stretch(np.sin(y / 2.2 + 1.6 * wave) + _noise(rng, 9, 0.8) / 0.08, 2.0),
        "plank": _stretch(np.where(y % 14 < 1.6, 3.0, 0.0) + _noise(rng, 9, 0.8) / 0.2, 1.6),
        "brick": _stretch(np.where((y % 12 < 1.6) | ((x + 12 * ((y // 12) % 2)) % 24 < 1.6), 3.0, 0.0)
                          + _noise(rng, 3, 2) / 0.2, 1.6),
        "weave": _stretch(np.sin(x / 1.3) * np.sin(y / 1.3) + _noise(rng, 2, 2)),
        "leaf": _stretch(np.sin((x + 0.6 * y) / 3.0) + _noise(rng, 3, 3) / 0.1, 1.6),
        "water": _stretch(np.sin(y / 2.6 + 0.9 * wave) + _noise(rng, 10, 1.0) / 0.05, 1.8),
        "cloud": _stretch(_noise(rng, 30, 18) / 0.012 + _noise(rng, 9, 6) / 0.09 + _noise(rng, 3, 2), 1.8),
    }  # fmt: skip
    ramp = np.linspace(0, 255, 32)
    v, u = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
    bank["shade"] = np.repeat(ramp[:, None], 32, axis=1).astype(np.uint8)
    bank["sheen"] = (255 * np.abs(np.cos(2.4 * (u + 0.25)) ** 2)).astype(np.uint8)  # across a cylinder
    bank["ball"] = np.clip(150 * np.hypot(u + 0.3, v + 0.35), 0, 255).astype(np.uint8)
    bank["glass"] = np.clip(128 + 160 * np.sin(3.2 * (u + 0.7 * v)) ** 3, 0, 255).astype(np.uint8)
    return bank
