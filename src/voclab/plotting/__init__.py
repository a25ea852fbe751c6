"""Every image: one style, colours that colour-blind readers can tell apart, one function a figure.

Each function returns a matplotlib figure; :func:`save` writes it with its title, caption and
alternative text for the gallery.
"""

from voclab.plotting.adversary import (
    adversary_curves,
    attack_mask_rows,
    attack_triptychs,
    defence,
    fooling_over_epsilon,
    magnified,
    patterns,
    survival,
    trade_off,
    transfer_matrix,
)
from voclab.plotting.base import (
    COLOURS,
    STYLE,
    block_diagram,
    confusion,
    image_grid,
    learning_curves,
    look,
    per_class_scores,
    save,
)
from voclab.plotting.classification import class_frequency, heat_maps, reliability_diagram
from voclab.plotting.folder import FigureFolder
from voclab.plotting.robustness import (
    condition_scores,
    dots_with_intervals,
    perturbed_versions,
    severity_panels,
    share_distribution,
)
from voclab.plotting.segmentation import (
    ERROR_COLOURS,
    ERROR_KINDS,
    architecture,
    class_dice_bars,
    edge_closeups,
    error_kinds,
    error_maps,
    mask_legend,
    name_regions,
    overlay,
    pixel_confusion,
    prediction_rows,
    segmentation_samples,
)

__all__ = [
    "COLOURS",
    "ERROR_COLOURS",
    "ERROR_KINDS",
    "STYLE",
    "FigureFolder",
    "adversary_curves",
    "architecture",
    "attack_mask_rows",
    "attack_triptychs",
    "block_diagram",
    "class_dice_bars",
    "class_frequency",
    "condition_scores",
    "confusion",
    "defence",
    "dots_with_intervals",
    "edge_closeups",
    "error_kinds",
    "error_maps",
    "fooling_over_epsilon",
    "heat_maps",
    "image_grid",
    "learning_curves",
    "look",
    "magnified",
    "mask_legend",
    "name_regions",
    "overlay",
    "patterns",
    "per_class_scores",
    "perturbed_versions",
    "pixel_confusion",
    "prediction_rows",
    "reliability_diagram",
    "save",
    "segmentation_samples",
    "severity_panels",
    "share_distribution",
    "survival",
    "trade_off",
    "transfer_matrix",
]
