"""Classifiers by name for small pictures such as CIFAR-10's, which also take larger ones."""

from dataclasses import dataclass

import keras

from voclab.errors import VoclabError
from voclab.models.classifiers import build_classifier


@dataclass(frozen=True)
class Architecture:
    """How a classifier of the zoo is made from a backbone.

    Attributes:
        backbone: key of ``voclab.models.backbones.BACKBONES``.
        width: the builder's argument that :func:`build` calls width; ``None`` if it has none.
        pooling: of the feature map, see :func:`voclab.models.classifiers.build_classifier`.
        resize: side in pixels that pictures are resized to unless :func:`build` is told another;
            ``None`` leaves them as they are.
    """

    backbone: str
    width: str | None = "width"
    pooling: tuple[str, ...] = ("average",)
    resize: int | None = None


_BOTH = ("average", "maximum")
# What each is: voclab.models.small. The numbers are trainable parameters with ten classes.
ZOO: dict[str, Architecture] = {
    "cnn": Architecture("plain_cnn"),  # 94,538
    "resnet8": Architecture("resnet8"),  # 78,042
    "resnet20": Architecture("resnet20"),  # 272,474; published as 0.27 M
    "resnet18": Architecture("resnet18"),  # 11,173,962; known as 11.17 M
    "vgg": Architecture("vgg11"),  # 9,228,362; known as 9.23 M with one dense layer
    "densenet": Architecture("densenet_bc"),  # 176,122; published as 0.8 M at depth 100, where it has 769,162
    "residual_cnn": Architecture("cnn", "width", _BOTH, 64),  # the network of the shipped source weights
    "mobilenet_v2": Architecture("mobilenet_v2", "alpha", _BOTH, 96),  # 2,249,482
    "efficientnet_b0": Architecture("efficientnet_b0", None, _BOTH, 96),  # 4,033,158
}


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

    The small networks see a picture at its own size; those made for photos enlarge it inside the model, so
    that an epsilon is in units of the small picture's pixels.

    Args:
        name: key of :data:`ZOO`.
        classes: number of logits.
        dropout: share of the pooled features dropped while training.
        weights: ``None`` (random), ``"imagenet"`` (transfer models only) or a file with the weights of the
            backbone; see :func:`voclab.models.backbones.build_backbone`.
        resize: side in pixels that pictures are resized to inside the model, if another than the
            architecture's own.
        width: channels of the first stage, for ``densenet`` the growth rate, for ``mobilenet_v2`` the
            multiplier alpha; ``None`` is the published width, and the only one of ``efficientnet_b0``.

    Returns:
        ``keras.Model``: (batch, H, W, 3) float32 RGB in [0, 1] -> (batch, classes) float32 logits.

    Raises:
        VoclabError: an unknown name, a width where there is none to choose, or weights that cannot be had.
    """
    if name not in ZOO:
        raise VoclabError(f"There is no classifier {name!r}; choose one of {', '.join(ZOO)}.")
    architecture = ZOO[name]
    if width is not None and architecture.width is None:
        raise VoclabError(f"Classifier {name!r} has one width only; leave width out.")
    if width is not None and architecture.width == "width":
        if width < 1 or width != int(width):
            raise VoclabError(f"The width of {name!r} is {width:g}; it is a number of channels, such as 16.")
        width = int(width)
    return build_classifier(
        architecture.backbone,
        classes,
        weights=weights,
        dropout=dropout,
        options={} if width is None else {architecture.width: width},
        resize=architecture.resize if resize is None else resize,
        pooling=architecture.pooling,
    )
