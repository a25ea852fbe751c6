"""How much of what a network says and sees stays when an image changes and its content does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from voclab.corruptions.perturbations import CONSISTENCY, Setting, perturbed
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.metrics.statistics import bootstrap_interval

if TYPE_CHECKING:  # perturbations are known by name, and a wrong one is said at once, without these
    import keras
    import pandas as pd

ALL, CONTROL = "all of them", "another image (control)"  # rows of a summary


class Probe:
    """A network that gives, beside its answer, the features of one of its layers.

    Args:
        model: (B, H, W, 3) in [0, 1] -> (B, classes) logits or probabilities.
        layer: the layer whose output the features are, averaged over all places; without it the last one
            that gives a map.
        name: what people call it.

    Raises:
        VoclabError: no such layer, or no layer that gives a map.
    """

    def __init__(self, model: "keras.Model", layer: str | None = None, name: str | None = None):
        import keras
        from keras import ops

        from voclab.backend import compiled

        maps = [found.name for found in model.layers if _gives_map(found)]
        if not maps or (layer is not None and layer not in [found.name for found in model.layers]):
            raise VoclabError(
                f"The network {model.name} has no layer {layer or 'that gives a map'}; choose one of"
                f" {', '.join(maps[-8:]) or 'another network'}."
            )
        self.name, self.layer = name or model.name, layer or maps[-1]
        both = keras.Model(model.inputs, [model.get_layer(self.layer).output, model.outputs[0]])
        self._classes = int(model.outputs[0].shape[-1])

        def run(x, training):
            features, answer = both(x, training=training)
            if len(features.shape) == 4:
                features = ops.mean(features, axis=(1, 2))
            return ops.concatenate([ops.cast(features, "float32"), ops.cast(answer, "float32")], axis=-1)

        self._run = compiled(run, self.name)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, H, W, 3) uint8 RGB -> (features (B, F), answers (B, classes)), float32."""
        both = self._run(images.astype(np.float32) / 255.0)
        return both[:, : -self._classes], both[:, -self._classes :]


def _gives_map(layer: "keras.Layer") -> bool:
    import keras

    if isinstance(layer, keras.layers.InputLayer):
        return False
    output = getattr(layer, "output", None)
    return output is not None and not isinstance(output, list | dict) and len(output.shape) == 4


@dataclass(frozen=True)
class Consistency:
    """What :func:`consistency` measured; rows are images, columns perturbations.

    Attributes:
        network: its name.
        titles: names of the perturbations.
        top: (n,) the clean image's top class.
        kept: (n, perturbations) whether the top class is the same.
        cosine: cosine similarity a·b / (‖a‖ ‖b‖) of the features a of the clean and b of the perturbed image;
            1 for the same direction.
        euclidean: 1 / (1 + ‖a − b‖ / ‖a‖): 1 for the same features, 1/2 where they differ by their own
            length, so that networks with features of any size compare.
        control: the same three, (n,) each, of every clean image and another one, half the data set away: what
            is left when nothing of the image is. Features after a ReLU are never negative, so their cosine
            similarity is far from 0 even then. Empty for a single image.
    """

    network: str
    titles: tuple[str, ...]
    top: np.ndarray
    kept: np.ndarray
    cosine: np.ndarray
    euclidean: np.ndarray
    control: dict[str, np.ndarray] = field(default_factory=dict)


def consistency(
    probe: Probe,
    dataset: Dataset,
    size: int,
    perturbations: Mapping[str, Setting] = CONSISTENCY,
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[str], None] | None = None,
) -> Consistency:
    """Answers and features of a network for every image of a data set, clean and perturbed.

    Images are resized to ``size`` × ``size`` first and perturbed then, image k with the seed (seed, k), so
    that all networks see the same images.

    Args:
        probe: the network.
        dataset: any; its labels are not used.
        size: side of the images, pixels.
        perturbations: title -> (name, strength).
        seed: of what is random in them.
        batch_size: images at once; each is seen with all its perturbed versions.
        progress: receives a line after each batch.
    """
    from voclab.data.images import at_size

    if not len(dataset):
        raise VoclabError(f"{dataset.name} holds no images in {dataset.split}; name another split.")
    rows, features = [], []
    for start in range(0, len(dataset), batch_size):
        index = range(start, min(start + batch_size, len(dataset)))
        clean = np.stack([at_size(dataset.image(i), size) for i in index])
        before, answers = probe(clean)
        features.append(before)
        columns = []
        for setting in perturbations.values():
            changed = np.stack([perturbed(x, *setting, (seed, i)) for x, i in zip(clean, index, strict=True)])
            after, others = probe(changed)
            columns.append(
                (answers.argmax(-1) == others.argmax(-1), *feature_similarity(before, after).values())
            )
        rows.append((answers.argmax(-1), *(np.stack(part, axis=1) for part in zip(*columns, strict=True))))
        if progress:
            progress(f"{probe.name}: {index[-1] + 1}/{len(dataset)} images")
    top, kept, cosine, euclidean = (np.concatenate(part) for part in zip(*rows, strict=True))
    control = _control(np.concatenate(features), top) if len(dataset) > 1 else {}
    return Consistency(probe.name, tuple(perturbations), top, kept, cosine, euclidean, control)


def _control(features: np.ndarray, top: np.ndarray) -> dict[str, np.ndarray]:
    # Half the data set away: neighbours are often of the same class.
    away = np.roll(np.arange(len(top)), len(top) // 2)
    return {"kept": top == top[away], **feature_similarity(features, features[away])}


def feature_similarity(before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """``cosine`` and ``euclidean`` similarity of two (n, F) arrays row by row, see :class:`Consistency`.

    Features that are all zero have no direction; two such rows count as the same, one such row as unlike.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    a, b = np.linalg.norm(before, axis=-1), np.linalg.norm(after, axis=-1)
    lengths = a * b
    cosine = np.divide((before * after).sum(-1), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    distance = np.linalg.norm(before - after, axis=-1)
    relative = np.divide(distance, a, out=np.where(distance > 0, np.inf, 0.0), where=a > 0)
    return {"cosine": np.where((a == 0) & (b == 0), 1.0, cosine), "euclidean": 1 / (1 + relative)}


def summary(result: Consistency, draws: int = 2000, seed: int = 0) -> "pd.DataFrame":
    """One row a perturbation, one for all and, where known, one for the control: means over images.

    Columns: ``kept``, ``cosine`` and ``euclidean``, each with ``… low`` and ``… high``, the ends of a 95 %
    bootstrap interval. Images are drawn, not pairs of image and perturbation, since the versions of one image
    are alike. One image alone has no interval: ``low`` and ``high`` are NaN.
    """
    import pandas as pd

    table = {}
    for measure in ("kept", "cosine", "euclidean"):
        values = np.asarray(getattr(result, measure), float)
        columns = [values, values.mean(axis=1, keepdims=True)]
        if result.control:
            columns.append(np.asarray(result.control[measure], float)[:, None])
        values = np.concatenate(columns, axis=1)
        table[measure] = values.mean(axis=0)
        table[f"{measure} low"], table[f"{measure} high"] = bootstrap_interval(
            lambda drawn, values=values: values[drawn].mean(axis=0), len(values), draws, seed
        )
    rows = [*result.titles, ALL, *[CONTROL] * bool(result.control)]
    return pd.DataFrame(table, index=pd.Index(rows, name="perturbation"))


def one_image(result: Consistency, shares: Sequence[float] = (0.05, 0.95)) -> dict[str, float]:
    """What a study of a single image could have reported: the share of perturbations that it keeps.

    Returns:
        ``mean`` over images; ``low`` and ``high``, between which nine of ten images lie (for other
        ``shares``, those); ``all`` and ``none``: the shares of images that keep every, or no, answer.
    """
    kept = result.kept.mean(axis=1)
    low, high = np.quantile(kept, shares, method="nearest")
    return {
        "mean": float(kept.mean()),
        "low": float(low),
        "high": float(high),
        "all": float((kept == 1).mean()),
        "none": float((kept == 0).mean()),
    }
