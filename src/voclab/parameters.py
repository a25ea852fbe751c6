"""What a notebook may be asked for: checked by ``voclab run`` and once more in the notebook, first of all."""

from typing import Any

from voclab import options
from voclab.models.catalogue import BACKBONES, require_file, require_weights
from voclab.profiles import PROFILES

EPSILON = 8  # bound of the adversary, steps of 1/255, unless another is asked for
WEIGHTS = ("auto", "imagenet", "none")  # or a file
MAKE_DEMO = ("efficientnet_lite0", "imagenet")  # backbone and weights of the saved notebooks


def check(
    *,
    profile: Any = "auto",
    weights: Any = "auto",
    backbone: Any = None,
    seed: Any = 0,
    epsilon: Any = None,
    **paths: Any,
) -> None:
    """Refuse parameters that make no sense, before anything is drawn, loaded or trained.

    Args:
        profile: ``"auto"`` or one of ``voclab.profiles.PROFILES``.
        weights: one of :data:`WEIGHTS`, or a file.
        backbone: one of ``voclab.models.catalogue.BACKBONES``, or ``None`` for the profile's.
        seed: of everything.
        epsilon: bound of an attack in steps of 1/255, or ``None`` where there is none.
        paths: further names and paths (``data``, ``images``, ``out``), each ``None`` where none is given.

    Raises:
        VoclabError: one sentence that names the parameter and what it may be.
    """
    options.one_of("profile", profile, ("auto", *PROFILES))
    options.seed("seed", seed)
    if backbone is not None:
        options.one_of("backbone", backbone, BACKBONES)
    if epsilon is not None:
        options.bound("epsilon", epsilon)
    for name, value in {"weights": weights, **paths}.items():
        if value is not None or name == "weights":
            options.text(name, value)
    if paths.get("out") is not None:
        options.target_folder("out", paths["out"])
    if weights not in WEIGHTS:
        require_file(weights)
    if backbone is not None and weights not in ("auto", "none"):
        require_weights(backbone, weights)
