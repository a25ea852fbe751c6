"""Every figure: one style, colours that colour-blind readers can tell apart, one function a figure.

Each function returns a matplotlib figure; :func:`save` writes it.
"""

from voclab.data.overlay import overlay
from voclab.plotting.adversary import (
    Answered,
    adversary_curves,
    attack_mask_rows,
    attack_triptychs,
    defence,
    fooled_photos,
    fooling_over_epsilon,
    magnified,
    survival,
    trade_off,
    transfer_matrix,
)
from voclab.plotting.base import COLOURS, RIGHT, STYLE, WRONG, look, save
from voclab.plotting.classification import (
    accuracy_by_labels,
    block_diagram,
    class_frequency,
    confusion,
    heat_maps,
    image_grid,
    learning_curves,
    per_class_scores,
    reliability_diagram,
)
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
    edge_closeups,
    error_kinds,
    error_maps,
    mask_legend,
    name_regions,
    pixel_confusion,
    prediction_rows,
    segmentation_samples,
)
from voclab.plotting.sweep import sweep_history, sweep_settings
from voclab.plotting.uncertainty import known_and_unknown, promised_recall
