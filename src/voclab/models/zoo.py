"""Classifiers by name for small images such as CIFAR-10's, which also take larger ones."""

import keras

from voclab.models.catalogue import ZOO, require_width
from voclab.models.classifiers import build_classifier
from voclab.options import one_of


def build(
    name: str,
    classes: int,
    *,
    dropout: float = 0.0,
    weights: str | None = None,
    resize: int | None = None,
    width: float | None = None,
) -> keras.Model:
    """The classifier of that name, made by :func:`voclab.models.classifiers.build_classifier`.

    The small networks see an image at its own size; those made for images enlarge it inside the model, so
    that an epsilon is in units of the small image's pixels.

    Args:
        name: key of :data:`voclab.models.catalogue.ZOO`.
        classes: number of logits.
        dropout: share of the pooled features dropped while training.
        weights: ``None`` (random), ``"imagenet"`` (transfer models only) or a file with the weights of the
            backbone; see :func:`voclab.models.backbones.build_backbone`.
        resize: side in pixels that images are resized to inside the model, if another than the
            architecture's own.
        width: channels of the first stage, for ``densenet`` the growth rate, for ``mobilenet_v2`` the
            multiplier alpha; ``None`` is the published width, and the only one of ``efficientnet_b0``.

    Returns:
        ``keras.Model``: (batch, H, W, 3) float32 RGB in [0, 1] -> (batch, classes) float32 logits.

    Raises:
        VoclabError: an unknown name, a width where there is none to choose, or weights that cannot be had.
    """
    architecture = ZOO[one_of("classifier", name, ZOO)]
    width = require_width(name, width)
    return build_classifier(
        architecture.backbone,
        classes,
        weights=weights,
        dropout=dropout,
        options={} if width is None else {architecture.width: width},
        resize=architecture.resize if resize is None else resize,
        pooling=architecture.pooling,
    )
