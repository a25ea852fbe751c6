"""What a classifier sees in an image, and what it gets wrong: the images of ``voclab visualize``."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from voclab import plotting
from voclab.data.base import Dataset
from voclab.data.batches import evaluation_batches
from voclab.data.images import resized
from voclab.errors import VoclabError
from voclab.evaluation import open_network
from voclab.evaluation.explain import GradCam
from voclab.models.catalogue import BACKBONE
from voclab.models.classifiers import FEATURES, predict
from voclab.models.segmenters import ENCODER
from voclab.reporting.page import Page, data_title, write_page

_CHANNELS = 8  # of a layer that are shown
_MISTAKES = 24


def visualize(
    model: str | Path,
    dataset: Dataset,
    sample: str,
    to: str | Path,
    *,
    layers: Sequence[str] | None = None,
    size: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Save feature maps and Grad-CAM of one image, and the images that the classifier gets wrong.

    Args:
        model: a run's folder or a ``.keras`` file.
        dataset: images with truth.
        sample: id of an image, or its number from 0 on.
        to: folder of the figures and of the page that shows them.
        layers: whose feature maps are shown; without them three, spread over the network's depth.
        size: side of the images, pixels; without it that of the run's training.
        progress: receives what :func:`voclab.evaluation.open_network` says.

    Returns:
        Paths of the PNGs and of the page's two files.

    Raises:
        VoclabError: no such image or layer, a segmenter, or a network that cannot be opened.
    """
    opened = open_network(model, dataset, size, progress=progress)
    network, size, path = opened.model, opened.size, opened.weights
    if opened.task == "segmentation":
        raise VoclabError(f"{path} is a segmenter; name a classifier to visualize.")
    if opened.layer != FEATURES:
        raise VoclabError(
            f"{path} has no layer {FEATURES!r} for Grad-CAM; name a classifier that voclab trained."
        )
    index = dataset.position(sample)
    name, to = dataset.ids[index], Path(to)
    chosen = _layers(network, layers)
    batches = evaluation_batches(dataset, size, 32)
    logits = np.concatenate([predict(network, pixels, 32, str(path)) for pixels in batches])
    image = dataset.image(index)
    maps = feature_maps(network, resized(image, size)[None], chosen)
    channels = [(layer, k) for layer in chosen for k in _strongest(maps[layer][0])]
    panels = [_shown(maps[layer][0, :, :, k]) for layer, k in channels]
    titles = [f"{layer} · {k}" for layer, k in channels]
    page = Page(to, f"Data: {data_title(dataset.name)}, {dataset.split}; network: {path}.", numbered=False)
    page.figure(
        plotting.image_grid(panels, titles, _CHANNELS),
        "feature_maps",
        title=f"Feature maps of {name}",
        caption="A row a layer: the channels that vary most over the image, each from its lowest (dark) to"
        " its highest value (light).",
        alt=f"Grey maps of {len(panels)} channels of the layers {', '.join(chosen)}",
        images=True,
    )
    labels, classes = dataset.labels, dataset.class_names
    cam, top = GradCam(network, size), np.argsort(-logits[index])[:3]
    shown = list(dict.fromkeys([*np.flatnonzero(labels[index]), *top]))
    colours = [plotting.RIGHT if labels[index, k] else plotting.WRONG for k in shown]
    said = [f"{classes[k]} ({logits[index, k]:+.1f})" for k in shown]
    heats = [(text, cam(image, int(k)), colour) for k, text, colour in zip(shown, said, colours)]
    page.figure(
        plotting.heat_maps([(image, heats)]),
        "grad_cam",
        title=f"Grad-CAM of {name}",
        caption="Places that speak for a class, with its logit; true classes are green, the others among the"
        " three highest red.",
        alt=f"Heat maps over {name} for {', '.join(classes[k] for k in shown)}",
        images=True,
    )
    best = logits.argmax(1)
    wrong = np.flatnonzero(labels[np.arange(len(labels)), best] == 0)
    if len(wrong):
        # By how much the wrong class is above the best true one: what was most surely mistaken comes first.
        true = np.where(labels > 0, logits, -np.inf).max(1)
        worst = wrong[np.argsort(-(logits.max(1) - true)[wrong], kind="stable")][:_MISTAKES]
        texts = [
            f"{', '.join(classes[k] for k in np.flatnonzero(labels[i]))}\n→ {classes[best[i]]}" for i in worst
        ]
        page.figure(
            plotting.image_grid([_small(dataset.image(i)) for i in worst], texts, min(6, len(worst))),
            "misclassified",
            title=f"{len(wrong)} of {len(dataset)} images of {dataset.split} are mistaken",
            caption=f"True classes → the highest one. The {len(worst)} that are most surely mistaken.",
            alt="Images with their true class and the one that the classifier gives",
            images=True,
        )
    introduction = "Feature maps and Grad-CAM of one image, and the images that the classifier gets wrong."
    written = write_page(to, f"What {path} sees", introduction, [page.chapter({})])
    return [*page.images, *written]


def feature_maps(model: keras.Model, images: np.ndarray, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Layer of the backbone -> its output (B, h, w, channels) on (B, H, W, 3) images in [0, 1]."""
    before, network = _parts(model)
    several = keras.Model(network.inputs, [network.get_layer(name).output for name in layers])
    found = several.predict_on_batch(images if before is None else before.predict_on_batch(images))
    return dict(zip(layers, found if isinstance(found, list) else [found], strict=True))


def _parts(model: keras.Model) -> tuple[keras.Model | None, keras.Model]:
    """(what prepares the pixels, the backbone), which is a model inside ours; (None, model) of another's."""
    inner = [layer for layer in model.layers if layer.name in (BACKBONE, ENCODER)]
    if not inner:
        return None, model
    return keras.Model(model.inputs, model.get_layer("preprocessing").output), inner[0]


def _layers(model: keras.Model, wanted: Sequence[str] | None) -> list[str]:
    """Layers whose maps are shown: those that were named, or three activations from early to last."""
    network = _parts(model)[1]
    maps = [found.name for found in network.layers[1:] if len(getattr(found.output, "shape", ())) == 4]
    for name in wanted or ():
        if name not in maps:
            raise VoclabError(
                f"The network {model.name} has no layer {name} that gives a map; choose one of"
                f" {', '.join(maps[-8:])}."
            )
    if wanted:
        return list(dict.fromkeys(wanted))
    # Activations rather than sums or norms: what the next layer really sees.
    active = [name for name in maps if "relu" in name or "activation" in name] or maps
    spread = np.linspace(0, len(active) - 1, min(3, len(active))).round().astype(int)
    return [active[k] for k in spread]


def _strongest(maps: np.ndarray) -> list[int]:
    return [int(k) for k in np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:_CHANNELS]]


def _shown(channel: np.ndarray) -> np.ndarray:
    """(h, w) of any range -> (h, w, 3) uint8 from its lowest to its highest value; a flat one is black."""
    low, high = float(channel.min()), float(channel.max())
    grey = np.rint(255 * (channel - low) / (high - low) if high > low else 0 * channel).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _small(image: np.ndarray, side: int = 160) -> np.ndarray:
    step = max(1, max(image.shape[:2]) // side)
    return image[::step, ::step]
