"""What a run is known by: settings, data, the weights that it starts from and the code that made it."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from voclab import __version__
from voclab.data.base import Dataset
from voclab.errors import VoclabError
from voclab.files import sha256
from voclab.training.code import UNREADABLE, code_digest, fingerprint

FORMAT = 2  # of the files in a run folder; a new one makes every run anew
ASKED = "asked"  # what was typed to get a run says nothing that its experiment and its data do not
MADE_WITH = "made_with"  # versions are kept and said; another one alone makes no other run
_LIBRARIES = ("tensorflow", "keras", "numpy", "albumentations")
_SHOWN = 4  # changes that a sentence lists
_ABSENT = object()
_masks: WeakKeyDictionary[Dataset, str] = WeakKeyDictionary()  # reading those of VOC takes seconds


def known_by(settings: Mapping, *code) -> dict:
    """The configuration to begin a run with: settings, and what else makes it this run.

    Args:
        settings: what was asked for, with :func:`data_digest` and :func:`weights_digest` of what goes in.
        code: the functions and classes that make the run, see :func:`voclab.training.code.code_digest`.
    """
    settings = plain(settings)
    made_with = {"voclab": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            made_with[name] = version(name)
        except PackageNotFoundError:  # tensorflow-cpu, say, is tensorflow under another name
            made_with[name] = version("tensorflow-cpu") if name == "tensorflow" else "unknown"
    code = code_digest(*code, named=_texts(settings))
    return {**settings, "format": FORMAT, "code": code, MADE_WITH: made_with}


def plain(value):
    """Dataclasses, tuples, paths and numpy numbers as what JSON gives back; code by its fingerprint."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value) if isinstance(value, Path) else fingerprint(value)


def _texts(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)


def weights_digest(weights: str | None) -> str | None:
    """What identifies the weights a run starts from: a file's content rather than its name.

    Raises:
        VoclabError: there is no such file.
    """
    if weights in (None, "imagenet"):
        return weights
    if not Path(weights).is_file():
        raise VoclabError(f"The weights file {weights} is missing; name a file, or imagenet.")
    return sha256(weights)[:16]


def data_digest(*parts: Dataset, masks: bool = False) -> dict[str, dict]:
    """What identifies the parts of the data in a configuration: split -> number of images and digest."""
    return {part.split: {"images": len(part), "digest": digest(part, masks)} for part in parts}


def digest(dataset: Dataset, masks: bool = False) -> str:
    """What identifies a data set: ids, classes, labels, first and last image, and where asked all masks."""
    state = hashlib.sha256(json.dumps([dataset.task, dataset.class_names, dataset.ids]).encode())
    if dataset.labels is not None:
        state.update(np.ascontiguousarray(dataset.labels).tobytes())
    for i in sorted({0, len(dataset) - 1}):
        state.update(np.ascontiguousarray(dataset.image(i)).tobytes())
    if masks and dataset.has_masks:
        if dataset not in _masks:
            every = hashlib.sha256()
            for i in range(len(dataset)):
                mask = dataset.mask(i)
                every.update(f"{mask.shape}".encode() + np.ascontiguousarray(mask).tobytes())
            _masks[dataset] = every.hexdigest()
        state.update(_masks[dataset].encode())
    return state.hexdigest()[:16]


def changes(before: dict, now: dict) -> list[str]:
    """What differs between two configurations, for people; nothing if they describe the same run."""
    if before.get("format") != now.get("format"):
        return [f"the format of run folders is {now.get('format')} and was {before.get('format')}"]
    old, new = dict(_leaves(before)), dict(_leaves(now))
    paths = sorted(old.keys() | new.keys(), key=lambda path: ("code" not in path, path))
    pairs = [(path, old.get(path, _ABSENT), new.get(path, _ABSENT)) for path in paths]
    return list(dict.fromkeys(_said(*pair) for pair in pairs if pair[1] != pair[2]))


def _leaves(value, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, entry in value.items():
        if key not in (MADE_WITH, ASKED):
            yield from _leaves(entry, (*path, key))


def _said(path: tuple[str, ...], before, now) -> str:
    if "code" in path[:-1] and str(now).startswith(UNREADABLE):
        return f"the code of {path[-1]} cannot be read, so it may have changed"
    if "code" in path[:-1]:
        return f"{path[-1]} changed"
    if "data" in path[:-1]:
        return f"the data changed ({path[path.index('data') + 1]})"
    if path[-1] == "weights" and "experiment" not in path:
        return "the weights that it starts from changed"
    name = ".".join([*(p for p in path[:-1] if p not in ("experiment", "task")), path[-1]])
    if _ABSENT in (before, now):
        return f"{name} is {'new' if before is _ABSENT else 'gone'}"
    if max(len(str(before)), len(str(now))) > 40 or _is_digest(before):
        return f"{name} changed"
    return f"{name} is {now} and was {before}"


def _is_digest(value) -> bool:
    return isinstance(value, str) and len(value) == 16 and not set(value) - set("0123456789abcdef")


def listed(found: list[str]) -> str:
    """Changes in one phrase."""
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def made_elsewhere(before: dict, now: dict) -> str:
    """Which versions made a run, where others are at hand; else nothing."""
    old, new = before.get(MADE_WITH), now.get(MADE_WITH)
    if not isinstance(old, dict) or not isinstance(new, dict):
        return ""
    other = [name for name in new if old.get(name) != new[name]]
    made = ", ".join(f"{name} {old.get(name)}" for name in other)
    return f" (made with {made}; here {', '.join(new[name] for name in other)})" if other else ""
