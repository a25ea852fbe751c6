"""What a notebook opens first: profile, data, weights and the folders that its results go to."""

import ast
import base64
import inspect
import logging
import os
import platform
import re
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from voclab import text
from voclab.data import (
    EMBEDDED,
    NAMES,
    SINGLE_LABEL,
    TOY_MANIFEST,
    TOYCIFAR_MANIFEST,
    VOC_CLASSES,
    Found,
    load,
    test_split,
)
from voclab.data.base import Dataset
from voclab.data.drawn import draw
from voclab.data.obtain import obtain
from voclab.data.splits import fit_validation
from voclab.errors import VoclabError
from voclab.experiments import common, parameters
from voclab.experiments.common import Profile
from voclab.files import make_folder, sha256
from voclab.kaggle import merge_submissions, write_submission
from voclab.models.pretrained import Weights, resolve_weights
from voclab.reporting.page import Page, data_title
from voclab.revision import git_revision
from voclab.terminal import say
from voclab.training import Parts

_MADE = {"toyvoc": TOY_MANIFEST, "toycifar": TOYCIFAR_MANIFEST}  # drawn data -> its file
_COST = (
    "**Cost** The profile `full` needs a GPU. How long a whole notebook takes with it has not been measured;"
    " the last segmenter of notebook 02 alone took 9 minutes on one H200 (Keras on PyTorch, 35 epochs)."
)
_NO_GPU = " There is no GPU here: stop this and take `demo`."
_SINGLE = "cifar10, toycifar or a folder of images by class"
_LIBRARIES = ("tensorflow", "keras", "numpy", "sklearn", "albumentations", "matplotlib")


class Session:
    """Everything a notebook shares with the others: one split, one place for each kind of result.

    Results of the default (ToyVOC, demo, seed 0) go to ``figures/``, ``submissions/`` and ``runs/`` of
    the project; those of any other setting go below ``runs/<setting>/``, or below ``out``. With
    ``single_label`` the notebook is about images that show one class each, and ToyCIFAR is the default.

    On Kaggle the working folder becomes a notebook's output, of which a submission may hold few files. All
    results go to a temporary folder there, and only a complete ``submission.csv`` to the working folder.

    Attributes:
        profile: what an experiment's ``settings`` are chosen by.
        common: settings that all notebooks share.
        fit, validation: the parts of the training images; every choice is made on ``validation``.
        test_set: images on which nothing is chosen (VOC's val list, or the competition's test set).
        parts: these three, as trainings take them.
        root: folder of the data, absolute.
        runs, figures_dir, submissions: folders.
    """

    def __init__(
        self,
        notebook: str,
        *,
        question: str,
        profile: str = "auto",
        data: str | None = None,
        weights: str = "auto",
        backbone: str | None = None,
        seed: int = 0,
        out: str | None = None,
        epsilon: float | None = None,
        single_label: bool = False,
    ):
        chosen = {"profile": profile, "data": data, "weights": weights, "backbone": backbone}
        parameters.check(**chosen, seed=seed, epsilon=epsilon, out=out)
        variant = None if epsilon in (None, parameters.EPSILON) else f"epsilon{float(epsilon):g}"
        self.notebook, self.question, self.seed = notebook, question, int(seed)
        self._parameters = {"weights": weights, "backbone": backbone}
        self._started, self._began = time.perf_counter(), time.time()
        logging.getLogger("tensorflow").addFilter(_not_of_retracing)
        home = project_root()
        found = obtain(data, home / "data", single_label=single_label, unasked=on_colab())
        if single_label != (found.name in SINGLE_LABEL):
            about, named = ("one class", "several") if single_label else ("several classes", "one")
            others = _SINGLE if single_label else "voc2009, kaggle, toyvoc or a folder of one of them"
            raise VoclabError(
                f"Notebook {notebook} is about images that show {about}; those of {found.name} show {named}."
                f" Name {others}."
            )
        self.profile = Profile.of(profile, found.name)
        self.common = common.settings(self.profile)
        toy, named = found.name in _MADE, _is_path(data)
        found = self._sized(found, data)
        self.root = found.root.resolve()
        self.train: Dataset = load(found.name, found.root, "train")
        self.test_set: Dataset = load(found.name, found.root, test_split(found.name))
        self.fit, self.validation = fit_validation(self.train, self.common.validation_fraction, self.seed)
        self.parts = Parts(self.fit, self.validation, self.test_set)
        default = toy and not named and (self.profile.name, self.seed, variant) == ("demo", 0, None)
        default = default and (backbone, weights) in ((None, "auto"), parameters.MAKE_DEMO)
        setting = f"{_own_name(self.train, self.root)}-{self.profile.name}-seed{self.seed}"
        for choice in (backbone, Path(weights).stem if weights != "auto" else None, variant):
            setting += f"-{choice}" if choice and not default else ""
        base = Path(out) if out else home if default else home / "runs" / setting
        self.runs = base / "runs" / setting if default or out else base
        self.figures_dir = base / "figures" / notebook
        self.submissions = base / "submissions"
        for folder in (self.runs, self.figures_dir, self.submissions):
            make_folder(folder)
        self._why = found.why
        self._weights: Weights | None = None
        self._page = Page(self.figures_dir)
        self.trained_s = 0.0  # of all runs, also those that were read back
        if self.profile.name == "full":
            import tensorflow as tf

            gpus = tf.config.list_physical_devices("GPU")
            markdown(_COST if gpus else _COST + _NO_GPU)
        if self.common.mixed_precision:
            self._use_gpus()

    def _sized(self, found: Found, data: str | None) -> Found:
        """What was found; drawn data, unless a folder of it is named, in this profile's size."""
        if found.name not in _MADE or _is_path(data):
            return found
        root = self._toy(found)
        return replace(found, root=root, why=found.why.replace(str(found.root), str(root)))

    def _toy(self, found: Found) -> Path:
        """Drawn data of this profile's size; ``data/toyvoc`` and ``data/toycifar`` are the demo's."""
        name = self.profile.name
        root = found.root if name == "demo" else found.root.with_name(f"{found.root.name}-{name}")
        if name == "demo" and (root / _MADE[found.name]).is_file():
            return root  # `voclab data make` may have made another number of images: they are the user's
        if found.name == "toycifar":
            train, test = self.common.toycifar
            return draw("toycifar", root, train=train, test=test)
        train, val, test = self.common.toyvoc
        return draw("toyvoc", root, train=train, val=val, test=test, size=self.common.toyvoc_size)

    def small_images(self, data: str | None) -> tuple[Path, Profile]:
        """Folder and profile of images that show one class each, for a part of a notebook about images.

        ``data`` is as for the session; ``None`` takes CIFAR-10 where it lies in ``data/``, else ToyCIFAR.

        Raises:
            VoclabError: no such data, or images of several classes.
        """
        found = obtain(data, project_root() / "data", single_label=True, unasked=on_colab())
        if found.name not in SINGLE_LABEL:
            raise VoclabError(f"Images of {found.name} show several classes; name {_SINGLE}.")
        found = self._sized(found, data)
        title = data_title(found.name)
        markdown(f"**Small images** {text.markdown(title)}: {text.markdown(found.why)}.", data=title)
        return found.root.resolve(), Profile.of(self.profile.name, found.name)

    def _use_gpus(self) -> None:
        import keras

        from voclab.backend import use_all_gpus

        if use_all_gpus(self.common.batch):
            keras.config.set_dtype_policy("mixed_float16")

    @property
    def scored(self) -> Dataset:
        """Where results are reported: the test images, or the validation part if no truth is known."""
        return self.validation if self.test_set.labels is None else self.test_set

    @property
    def scored_part(self) -> str:
        """Name of that part in a run's metrics and predictions."""
        return "validation" if self.test_set.labels is None else "test"

    def weights(self) -> Weights:
        """Pretrained weights for the transfer models, see ``voclab.models.pretrained``."""
        self._weights = resolve_weights(
            self._parameters["weights"], self.common.backbone, self._parameters["backbone"]
        )
        return self._weights

    @property
    def _data(self) -> str:
        return f"{data_title(self.train.name)}: {self.train.source}"

    def describe(self) -> None:
        """Show which data and which weights are used, and why."""
        unknown = " (truth unknown: results are of the validation part)"
        lines = [
            f"**Profile** {self.profile.name}, seed {self.seed}.",
            f"**Data** {text.markdown(self._data)}; {text.markdown(self._why)}. "
            f"{len(self.fit)} images to fit, {len(self.validation)} to choose on, "
            f"{len(self.test_set)} to test{unknown if self.test_set.labels is None else ''}.",
        ]
        if self._weights:
            lines.append(f"**Weights** {text.markdown(self._weights.why)}.")
        markdown("  \n".join(lines), data=data_title(self.train.name))

    def figure(
        self, figure: Figure, name: str, *, images: bool = False, shown: str | None = None, **options
    ) -> None:
        """Save a figure under ``figures/<notebook>/`` and show it; ``options`` are of :meth:`Page.figure`.

        ``shown`` names the data set that it is about, where that is not the session's.
        """
        self._page.source = self._source(shown)
        item = self._page.figure(figure, name, images=images, **options)
        show_png(self.figures_dir / f"{item.name}.png", item.alt)
        markdown(f"*{text.markdown(item.caption)}*")

    def _source(self, shown: str | None) -> str:
        """The end of a caption: data and weights, which are known once :meth:`weights` has been called."""
        weights = f"; weights: {self._weights.title}" if self._weights else ""
        return f"Data: {data_title(shown or self.train.name)}{weights}."

    def table(
        self, frame: pd.DataFrame, name: str, *, title: str, caption: str, shown: str | None = None
    ) -> None:
        """Save a table of results for the gallery and show it, see :meth:`Page.table`."""
        from IPython.display import HTML, display

        self._page.source = self._source(shown)
        item = self._page.table(frame, name, title=title, caption=caption)
        markdown(f"**{text.markdown(title)}**")
        # A $ in the name of a class begins no formula; both classes, for MathJax 2 and 3.
        no_formulas = ["tex2jax_ignore", "mathjax_ignore"]
        as_text = pd.DataFrame(item.rows, columns=item.columns)
        display(HTML(as_text.to_html(index=False, border=0, classes=no_formulas)))
        markdown(f"*{text.markdown(item.caption)}*")

    def source(self, *objects: Any) -> None:
        """Show the source of functions and classes, as they are run: highlighted, docstrings cut to a line.

        Args:
            objects: functions, methods or classes, of voclab or of the notebook.
        """
        from IPython.display import Code, display

        for found in objects:
            found = inspect.unwrap(found)
            markdown(f"`{found.__module__}.{found.__qualname__}`")
            display(Code(short_source(found), language="python"))

    def close(
        self,
        answer: str,
        *,
        summary: str = "",
        main_figure: str | None = None,
        key_numbers: Mapping[str, str] = {},
    ) -> None:
        """Write what the gallery says of this run: question, answer, configuration, versions, time.

        Args:
            answer: Markdown, see :class:`voclab.reporting.page.Text`.
            summary: the answer in one or two sentences, for the first page (default: its first paragraph).
            main_figure: name of the figure to show there (default: the first chart).
            key_numbers: what was measured -> its value and setting; runs on other data are shown beside it
                under the same words.

        Raises:
            VoclabError: a main figure that was not made.
        """
        chosen = self._page.named(main_figure).name if main_figure else None
        seconds = time.perf_counter() - self._started
        record: dict[str, Any] = {
            "question": self.question,
            "answer": answer,
            "summary": summary,
            "main_figure": chosen,
            "key_numbers": {label: str(value) for label, value in key_numbers.items()},
            "dataset": self.train.name,
            "profile": self.profile.name,
            "seed": self.seed,
            "data": self._data,
            "weights": self._weights.why if self._weights else "none needed",
            "versions": {"python": platform.python_version()}
            | {name: import_module(name).__version__ for name in _LIBRARIES},
            "git": git_revision(),
            "submissions": self._submissions(),
            "run_time_s": round(seconds),
            "training_s": round(self.trained_s),
        }
        self._page.close(record)
        markdown(answer)
        if on_kaggle() and record["submissions"]:
            self._hand_in(record["submissions"])

    def submits(self) -> bool:
        """Whether these classes are the competition's; where they are not, a sentence says so."""
        if self.train.class_names == VOC_CLASSES:
            return True
        say(
            f"No submission is written: the competition has VOC's {len(VOC_CLASSES)} classes, these"
            f" data have {len(self.train.class_names)} of their own."
        )
        return False

    def _hand_in(self, written: dict[str, str]) -> None:
        """Write ``submission.csv`` into the working folder, from the rows of this notebook and the other."""
        target, note = Path("submission.csv"), ""
        parts = [self.submissions / target.name]
        if target.name not in written:
            parts = [self.submissions / "classification.csv", self.submissions / "segmentation.csv"]
        if not parts[-1].is_file():
            parts[-1] = self.runs / "no_segmentation.csv"
            empty = (np.zeros((1, 1), np.uint8) for _ in self.test_set.ids)
            write_submission(parts[-1], self.test_set.ids, label_maps=empty)
            note = "; its segmentation rows are empty until notebook 02 is run in the same session"
        markdown(f"**{target}** is in the working folder: {merge_submissions(target, *parts)}{note}.")

    def _submissions(self) -> dict[str, str]:
        """Submission files that this run wrote, with their SHA-256: a file sent is traced back by it."""
        files = sorted(self.submissions.glob("*.csv"))
        return {file.name: sha256(file) for file in files if file.stat().st_mtime >= self._began}


def _not_of_retracing(record: logging.LogRecord) -> bool:
    """Each network gets one graph of its own, which TensorFlow takes for one function traced too often."""
    return "triggered tf.function retracing" not in record.getMessage()


def _own_name(train: Dataset, root: Path) -> str:
    """What a setting is called by its data: two folders of somebody's own must not share their runs."""
    if train.name not in ("voc", "pairs", "folder"):
        return train.name
    return f"{train.name}-{re.sub(r'[^a-zA-Z0-9_.-]+', '-', root.name)}"


def _is_path(data: str | None) -> bool:
    return data not in (None, EMBEDDED, *NAMES)


def on_kaggle() -> bool:
    """Whether this is a notebook that runs on Kaggle."""
    return "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def on_colab() -> bool:
    """Whether this is a notebook that runs on Colab."""
    if on_kaggle():  # its image is built on Colab's
        return False
    try:
        return "COLAB_RELEASE_TAG" in os.environ or find_spec("google.colab") is not None
    except ModuleNotFoundError:  # no package google at all
        return False


def short_source(found: Any) -> str:
    """The source of a function or class with every docstring cut to its first line."""
    lines: list[str | None] = list(textwrap.dedent(inspect.getsource(found)).splitlines())
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(found)))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (told := ast.get_docstring(node)):
            text = node.body[0]
            first, last = text.lineno - 1, text.end_lineno or text.lineno
            end = "" if told.splitlines()[0].endswith((".", ":")) else " …"
            shown = f'{" " * text.col_offset}"""{told.splitlines()[0]}{end}"""'
            lines[first:last] = [shown, *[None] * (last - first - 1)]
    return "\n".join(line for line in lines if line is not None)


def project_root() -> Path:
    """The working folder, or the one above it for a notebook opened in the project's ``notebooks/``.

    On Kaggle a temporary folder, which lasts as long as the session.
    """
    if on_kaggle():
        return Path(tempfile.gettempdir()) / "voclab"
    here = Path()
    if here.resolve().name == "notebooks" and (here.resolve().parent / "pyproject.toml").is_file():
        return Path("..")
    return here


def progress(line: str) -> None:
    """One line of progress that replaces the one before, in a notebook as in a terminal; a sentence stays."""
    sys.stdout.write("\r" + text.plain(line).ljust(110) + ("\n" if line.endswith(".") else ""))
    sys.stdout.flush()


def markdown(source: str, *, data: str | None = None) -> None:
    """Show Markdown; ``data``, the data that it names, comes into the title of a notebook that is run."""
    from IPython.display import Markdown, display

    display(Markdown(source), metadata={"voclab": {"data": data}} if data else None)


def show_png(path: Path, alt: str) -> None:
    """Show a PNG with its alternative text, in every IPython since 7 and on every page made of a notebook.

    ``Image(alt=...)`` reaches nobody: IPython 7 does not know it, later ones use it for addresses alone, and
    nbconvert does not look at metadata. So the image is there twice: as HTML for browsers, nbconvert and
    Colab, and as PNG with the text where other readers look for it (metadata; VS Code: plain text).
    """
    from IPython.display import display

    png = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f'<img alt="{text.html(alt)}" style="max-width: 100%" src="data:image/png;base64,{png}">'
    alt = text.plain(alt)
    data = {"text/html": image, "image/png": png, "text/plain": alt}
    display(data, raw=True, metadata={"image/png": {"alt": alt}})
