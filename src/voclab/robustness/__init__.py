"""Networks and photos that are not clean: perturbations with a strength, corruptions with a severity."""

from voclab.robustness.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    corrupted,
    mean_corruption_error,
    relative_mce,
)
from voclab.robustness.perturbations import CONSISTENCY, PERTURBATIONS, STRENGTHS, Setting, perturbed

__all__ = [
    "CONSISTENCY",
    "CORRUPTIONS",
    "PERTURBATIONS",
    "SEVERITIES",
    "STRENGTHS",
    "Setting",
    "corrupted",
    "mean_corruption_error",
    "perturbed",
    "relative_mce",
]
