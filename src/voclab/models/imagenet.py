"""ImageNet classifiers with their top, in pixel space: never with random weights."""

import warnings
from pathlib import Path

import keras

from voclab.errors import VoclabError
from voclab.files import read_json
from voclab.models.backbones import PixelPreprocessing, imagenet_available, keras_cache
from voclab.models.catalogue import LITE, get_backbone, require_imagenet

CLASSES = 1000
SIDE = 224  # pixels, of the images that all of them were trained on
# MobileNet's last layers are 1 × 1 convolutions: their maps are the answer, not features.
FEATURE_LAYERS = {"mobilenet": "conv_pw_13_relu"}


def build_imagenet_classifier(
    name: str, weights: str | Path | None = None, alpha: float | None = None
) -> keras.Model:
    """A published classifier of the 1000 classes of ImageNet, from ``keras.applications``.

    Args:
        name: one of :data:`voclab.models.catalogue.IMAGENET_CLASSIFIERS`.
        weights: file with the weights of the whole network, top included; without it those that Keras has
            cached or can download, or that a package brought.
        alpha: factor on the width of the networks in :data:`voclab.models.catalogue.SCALABLE`; 1 without it.

    Returns:
        ``keras.Model``: (batch, 224, 224, 3) float32 RGB in [0, 1] -> (batch, 1000) float32 logits.

    Raises:
        VoclabError: no such network, no such width, or weights that cannot be had or do not fit.
    """
    require_imagenet(name, weights, alpha)
    options = {} if alpha is None else {"alpha": alpha}
    if weights is None and name in LITE:  # comes with a package, which is named where it is missing
        return _build(name, "imagenet", options)
    if weights is None:
        if not imagenet_available(name, top=True):
            raise VoclabError(
                f"ImageNet weights for {name!r} are neither cached nor reachable; connect to the internet or"
                f" name a file with its top, {name}=FILE."
            )
        try:
            return _build(name, "imagenet", options)
        except Exception as error:  # the download raises plain Exception
            raise VoclabError(
                f"ImageNet weights for {name!r} could not be downloaded ({_reason(error)}); try again or name"
                f" a file with its top, {name}=FILE."
            ) from error
    try:
        model = _build(name, None, options)
        with warnings.catch_warnings():
            # Keras only warns of layers that stay random because the file lacks them.
            warnings.filterwarnings("error", message="Skipping nested container")
            model.load_weights(str(weights))
    except Exception as error:  # Keras and h5py raise many types for a file or a width that does not fit
        width = "" if alpha is None else f" of width {alpha:g}"
        raise VoclabError(
            f"Weights file {weights} does not fit {name!r}{width} with its top ({_reason(error)}); name the"
            " file made for it."
        ) from error
    return model


def imagenet_class_names() -> tuple[str, ...] | None:
    """The names of ImageNet's classes, if Keras has its list of them in its cache."""
    path = keras_cache() / "imagenet_class_index.json"
    if not path.is_file():
        return None
    index = read_json(path, dict)
    try:
        return tuple(index[str(k)][1].replace("_", " ") for k in range(CLASSES))
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise VoclabError(f"{path} is not Keras' list of ImageNet's classes; delete it.") from error


def _build(name: str, weights: str | None, options: dict) -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 3), name="pixels")
    backbone = get_backbone(name)
    # On a tensor rather than inside another model, so that the layers can be reached by their names.
    return backbone.build(
        include_top=True,
        weights=weights,
        input_tensor=PixelPreprocessing(backbone.mode, name="preprocessing")(inputs),
        classifier_activation=None,
        **options,
    )


def _reason(error: Exception) -> str:
    return "it lacks layers" if isinstance(error, UserWarning) else str(error).splitlines()[0][:160]
