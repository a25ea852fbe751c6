"""What all notebooks share: three profiles, and settings that belong to no single experiment."""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from voclab import options

PROFILES = ("smoke", "demo", "full")
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Profile:
    """How much work is done, and on which kind of images.

    Attributes:
        name: ``smoke`` (CI: every cell in seconds), ``demo`` (CPU: minutes) or ``full`` (GPU).
        drawn: whether the images are drawn; these are smaller than photographs.
    """

    name: str
    drawn: bool

    @classmethod
    def of(cls, name: str, dataset: str) -> "Profile":
        """The profile of that name for a data set; ``"auto"`` is ``demo`` everywhere, also with a GPU."""
        return cls(
            "demo" if name == "auto" else options.one_of("profile", name, PROFILES),
            dataset in ("toyvoc", "toycifar"),
        )


@dataclass(frozen=True)
class Sets(Generic[Settings]):
    """Sets of settings: of ``demo`` and ``full`` one for drawn images and one for photographs."""

    smoke: Settings
    demo: tuple[Settings, Settings]
    full: tuple[Settings, Settings]

    def of(self, profile: Profile) -> Settings:
        """The set of a profile."""
        return self.smoke if profile.name == "smoke" else getattr(self, profile.name)[not profile.drawn]


@dataclass(slots=True)
class Common:
    """Settings of all notebooks.

    Attributes:
        toyvoc: ToyVOC images in train, val and test.
        toyvoc_size: their longest side, pixels.
        toycifar: ToyCIFAR images in train and test.
        validation_fraction: share of the training images kept for every choice.
        backbone: of the transfer models, where ImageNet weights can be had.
        batch: a number that divides all batch sizes: GPUs share a batch evenly.
        mixed_precision: compute in float16 where the GPU is fast at it.
        cache_mb: memory for decoded training images, MiB; validation images may take up to 1024 more.
    """

    toyvoc: tuple[int, int, int] = (1000, 400, 200)
    toyvoc_size: int = 160
    toycifar: tuple[int, int] = (3000, 1000)
    validation_fraction: float = 0.2
    backbone: str = "mobilenet_v2"
    batch: int = 8
    mixed_precision: bool = False
    cache_mb: int = 1024


_DEMO = Common()
_SETS = Sets(
    smoke=replace(_DEMO, toyvoc=(64, 32, 16), toyvoc_size=96, toycifar=(160, 60)),
    demo=(_DEMO, _DEMO),
    full=(
        replace(
            _DEMO,
            toyvoc=(4000, 750, 750),
            toycifar=(10000, 2000),
            backbone="efficientnet_v2_b0",
            mixed_precision=True,
        ),
        replace(
            _DEMO,
            backbone="efficientnet_v2_s",
            mixed_precision=True,
            cache_mb=2048,
        ),
    ),
)


def settings(profile: Profile) -> Common:
    """The settings that all notebooks share."""
    return replace(_SETS.of(profile))
