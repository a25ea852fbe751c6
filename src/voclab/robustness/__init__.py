"""Networks and photos that are not clean: perturbations with a strength, corruptions with a severity."""

from voclab.robustness.consistency import (
    ALL,
    CONTROL,
    Consistency,
    Probe,
    consistency,
    feature_similarity,
    one_picture,
    summary,
)
from voclab.robustness.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    corrupted,
    mean_corruption_error,
    relative_mce,
)
from voclab.robustness.perturbations import (
    CONSISTENCY,
    NOISES,
    PERTURBATIONS,
    STRENGTHS,
    Setting,
    perturbed,
    require_strength,
)

__all__ = [
    "ALL",
    "CONSISTENCY",
    "CONTROL",
    "CORRUPTIONS",
    "NOISES",
    "PERTURBATIONS",
    "SEVERITIES",
    "STRENGTHS",
    "Consistency",
    "Probe",
    "Setting",
    "consistency",
    "corrupted",
    "feature_similarity",
    "mean_corruption_error",
    "one_picture",
    "perturbed",
    "relative_mce",
    "require_strength",
    "summary",
]
