"""Temperature scaling: one number that makes a network's probabilities as sure as its answers are right."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

_RANGE = np.log(1e-2), np.log(1e2)  # of the logarithm of a temperature


def probabilities(logits: np.ndarray, task: str, temperature: float = 1.0) -> np.ndarray:
    """(n, classes) probabilities of logits / temperature: sigmoid if ``"multilabel"``, else softmax.

    Those of ``"multilabel"`` are float64, the others of the type of the logits.
    """
    z = logits / np.float32(temperature)
    return expit(z, dtype=np.float64) if task == "multilabel" else softmax(z, axis=1)


def forecasts(
    labels: np.ndarray, logits: np.ndarray, task: str, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities for :func:`voclab.metrics.reliability` and the ECE.

    Of a multi-label network each label is a forecast. Of one that gives one answer the confidence of that
    answer is what counts (Guo et al. 2017).

    Args:
        labels: (n, classes), 0 or 1.
        logits: (n, classes); for pixels, n of them.
        task: ``"multilabel"``, else one class each.
        temperature: logits are divided by it.

    Returns:
        Both (n, classes) if multi-label, else (n, 1).
    """
    shares = probabilities(logits, task, temperature)
    if task == "multilabel":
        return labels, shares
    right = labels[np.arange(len(labels)), logits.argmax(1)]
    return right[:, None], shares.max(1, keepdims=True)


def negative_log_likelihood(
    labels: np.ndarray, logits: np.ndarray, task: str, temperature: float = 1.0
) -> float:
    """NLL in nats: the mean over all labels if ``task`` is ``"multilabel"``, else over images (or pixels).

    Labels are (n, classes), 0 or 1, of which a single one is 1 unless multi-label; logits (n, classes).
    """
    z = logits.astype(np.float64) / temperature
    if task == "multilabel":
        return float((np.logaddexp(0, z) - labels * z).mean())
    return float(-log_softmax(z, axis=1)[labels > 0].mean())


def fit_temperature(labels: np.ndarray, logits: np.ndarray, task: str) -> float:
    """The temperature, 0.01 to 100, of the smallest NLL on *validation* data (Guo et al. 2017, section 4.2).

    The NLL is convex in 1 / temperature, so there is one minimum. Ranks and top classes stay as they are.
    Guo et al. treat one answer an image; for independent labels the NLL is the binary one, with one
    temperature for all classes.

    Arguments are those of :func:`negative_log_likelihood`.
    """
    found = minimize_scalar(
        lambda t: negative_log_likelihood(labels, logits, task, np.exp(t)), bounds=_RANGE, method="bounded"
    )
    return float(np.exp(found.x))
