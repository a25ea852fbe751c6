"""Images that are not clean: perturbations with a strength, corruptions with a severity."""

from voclab.corruptions.imagenet_c import CORRUPTIONS, SEVERITIES, corrupted
from voclab.corruptions.perturbations import (
    CONSISTENCY,
    NOISES,
    PERTURBATIONS,
    STRENGTHS,
    Setting,
    perturbed,
    require_strength,
)

__all__ = [
    "CONSISTENCY",
    "CORRUPTIONS",
    "NOISES",
    "PERTURBATIONS",
    "SEVERITIES",
    "STRENGTHS",
    "Setting",
    "corrupted",
    "perturbed",
    "require_strength",
]
