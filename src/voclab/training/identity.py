"""What a run is known by: digests of its data and of the weights that it starts from."""

import hashlib
import json
from pathlib import Path

import numpy as np

from voclab.datasets.base import Dataset
from voclab.errors import VoclabError


def weights_digest(weights: str | None) -> str | None:
    """What identifies the weights a run starts from: a file's content rather than its name.

    Raises:
        VoclabError: there is no such file.
    """
    if weights in (None, "imagenet"):
        return weights
    if not Path(weights).is_file():
        raise VoclabError(f"The weights file {weights} is missing; name a file, or imagenet.")
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digest(dataset: Dataset) -> str:
    """What identifies a data set for our purposes: ids, labels, and its first and last picture."""
    state = hashlib.sha256(json.dumps(dataset.ids).encode())
    if dataset.labels is not None:
        state.update(np.ascontiguousarray(dataset.labels).tobytes())
    for i in {0, len(dataset) - 1}:
        state.update(np.ascontiguousarray(dataset.image(i)).tobytes())
    return state.hexdigest()[:16]
