"""Mean corruption error: how often a network errs on corrupted images against a baseline network."""

from collections.abc import Mapping, Sequence

import numpy as np

from voclab.errors import VoclabError


def mean_corruption_error(
    errors: Mapping[str, Sequence[float]],
    baseline: Mapping[str, Sequence[float]],
    clean: float = 0.0,
    baseline_clean: float = 0.0,
) -> float:
    """MCE in percent (Hendrycks & Dietterich 2019); with the error rates on clean images the relative mCE.

    Args:
        errors: for each corruption the error rates at severities 1 to 5, in [0, 1].
        baseline: the same of the baseline network (AlexNet in the paper).
        clean: error rate on clean images, which the relative mCE subtracts from all others.
        baseline_clean: that of the baseline.

    Returns:
        The mean over corruptions of 100 · Σ (errors - clean) / Σ (baseline errors - its clean ones); 100 is
        as good as the baseline.

    Raises:
        VoclabError: other corruptions in one than in the other, other rates, or a baseline that a corruption
            does not harm.
    """
    if not errors or errors.keys() != baseline.keys():
        raise VoclabError(
            f"The network has errors for {', '.join(errors) or 'nothing'}, the baseline for"
            f" {', '.join(baseline) or 'nothing'}; measure both on the same corruptions."
        )
    ratios = []
    for name in errors:
        ours, theirs = np.asarray(errors[name], float), np.asarray(baseline[name], float)
        rates = np.concatenate([ours, theirs, [clean, baseline_clean]])
        if ours.shape != (5,) or theirs.shape != (5,) or not ((rates >= 0) & (rates <= 1)).all():
            raise VoclabError(
                f"The errors under {name} are {ours} and {theirs}, clean {clean:g} and {baseline_clean:g};"
                " give five rates in [0, 1] for each network, one a severity."
            )
        harm = (theirs - baseline_clean).sum()
        if harm <= 0:
            raise VoclabError(
                f"The baseline loses nothing under {name}, so nothing can be measured against it; choose"
                " another baseline."
            )
        ratios.append((ours - clean).sum() / harm)
    return float(100 * np.mean(ratios))
