"""Saved models as files: which are there and what layers they name, known without Keras; loading one."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from voclab.errors import VoclabError, first_line
from voclab.files import ARRAY_DAMAGE
from voclab.models import ready
from voclab.models.catalogue import BACKBONE, IMAGENET_CLASSIFIERS, imagenet_named


def model_file(model: str | Path) -> Path:
    """The ``.keras`` file that a path names, itself or as the folder of a run.

    The text ``ready`` or ``ready-segmenter`` stands for a network that comes with the package. Its path is
    one that only :func:`load_model` understands: both are kept in one file.

    Raises:
        VoclabError: there is none, or it is of another kind.
    """
    if folder := ready.named(model):
        return folder / "model.keras"
    model = Path(model)
    if ready.is_ready(model):
        return model
    path = model / "model.keras" if model.is_dir() else model
    if not path.is_file():
        raise VoclabError(f"{path} is missing; name a run's folder, a .keras file, or {ready.CLASSIFIER}.")
    if path.suffix != ".keras":  # older formats can hold code, whatever the mode
        raise VoclabError(f"Model file {path} is no .keras file; save the model as one with Keras 3.")
    if not zipfile.is_zipfile(path):
        raise VoclabError(f"Model file {path} cannot be loaded (it is no archive); train it again.")
    return path


def called(model: Path) -> str:
    """What sentences and pages call a model file: its path, or the name of a network of the package.

    Args:
        model: as :func:`model_file` gives it.
    """
    return model.parent.name if ready.is_ready(model) else str(model)


def folder_beside(model: Path) -> Path:
    """Where what is made from a model file goes: beside it; of one of the package, ``runs/NAME``.

    Args:
        model: as :func:`model_file` gives it.
    """
    return Path("runs", model.parent.name) if ready.is_ready(model) else model.parent


def model_files(models: Sequence[str | Path]) -> dict[str, Path]:
    """Name -> file of several models; of two runs of the same name with the folder above it.

    Raises:
        VoclabError: one named twice, and what :func:`model_file` raises.
    """
    paths = [model_file(model) for model in models]
    real = [path.resolve() for path in paths]
    if len(set(real)) < len(real):
        twice = next(path for path, file in zip(paths, real) if real.count(file) > 1)
        raise VoclabError(f"{called(twice)} is named twice; name it once.")
    names = [path.parent.name if path.name == "model.keras" else path.stem for path in real]
    return {
        name if names.count(name) == 1 else f"{path.parent.parent.name}-{name}": file
        for name, path, file in zip(names, real, paths, strict=True)
    }


def network_named(text: str | Path) -> Path | tuple[str, float | None, str | None]:
    """What a text of the command line names: a ``.keras`` file, or a published network.

    Args:
        text: as for :func:`voclab.models.catalogue.imagenet_named` or :func:`model_file`; a ``Path`` names
            no published network.

    Raises:
        VoclabError: there is no such network or file.
    """
    if isinstance(text, Path):
        return model_file(text)
    found = imagenet_named(text)
    if found is not None:
        return found
    if not Path(text).exists() and not ready.named(text):
        raise VoclabError(
            f"{text} is missing; name a run's folder, a .keras file, or one of"
            f" {', '.join((ready.CLASSIFIER, *IMAGENET_CLASSIFIERS))}."
        )
    return model_file(text)


def networks_named(texts: Sequence[str | Path]) -> list[Path | tuple[str, float | None, str | None]]:
    """:func:`network_named` of several texts; one that is named twice is a ``VoclabError``."""
    if len(set(texts)) < len(texts):
        raise VoclabError(f"{next(t for t in texts if texts.count(t) > 1)} is named twice; name it once.")
    return [network_named(text) for text in texts]


def require_layers(path: Path, wanted: Sequence[str] | None) -> None:
    """Refuse layers that a saved model does not name; whether they give maps is seen when it is loaded."""
    there = _layers(path)
    for name in wanted or ():
        if there is not None and name not in there:
            raise VoclabError(
                f"The network in {path} has no layer {name} that gives a map; choose one of"
                f" {', '.join(there[-8:])}."
            )


def _layers(path: Path) -> list[str] | None:
    """Names of the layers of the backbone, or of the whole model without one; ``None`` if it does not say."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("config.json"))["config"]["layers"]
        inner = [layer for layer in found if layer["config"]["name"] == BACKBONE]
        found = inner[0]["config"]["layers"] if inner else found
        return [str(layer["config"]["name"]) for layer in found]
    except (IndexError, *ARRAY_DAMAGE):
        return None


def load_model(path: str | Path):
    """Load a ``.keras`` file in safe mode: nothing in it can execute code.

    Raises:
        VoclabError: it is missing, damaged or of another kind.
    """
    if ready.is_ready(path):
        return ready.load(Path(path).parent.name)

    import keras

    import voclab.models.generator
    import voclab.models.joint  # noqa: F401  (both register our layers)

    if Path(path).suffix != ".keras":  # older formats can hold code, whatever the mode
        raise VoclabError(f"Model file {path} is no .keras file; save the model as one with Keras 3.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zip, HDF5 and Keras each have their own errors for a damaged file
        raise VoclabError(
            f"Model file {path} cannot be loaded ({first_line(error)}); train it again."
        ) from error
