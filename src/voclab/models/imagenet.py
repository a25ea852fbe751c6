"""ImageNet classifiers with their top, in pixel space: never with random weights."""

from pathlib import Path

import keras

from voclab.errors import VoclabError
from voclab.files import read_json
from voclab.models.backbones import PixelPreprocessing, keras_cache, with_weights
from voclab.models.catalogue import get_backbone, require_imagenet

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
    inputs = keras.Input((SIDE, SIDE, 3), name="pixels")
    return with_weights(
        name,
        weights or "imagenet",
        top=True,
        # On a tensor rather than inside another model, so that the layers can be reached by their names.
        input_tensor=PixelPreprocessing(get_backbone(name).mode, name="preprocessing")(inputs),
        classifier_activation=None,
        **({} if alpha is None else {"alpha": alpha}),
    )


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
