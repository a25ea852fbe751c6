"""Where images come from: one reader per layout, one :class:`Dataset` out, and where to look for data.

To add a data set, write a module with ``recognise`` and ``read`` and name it in :data:`SOURCES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voclab.data import cifar10, competition, folder, pairs, vocdevkit
from voclab.data.base import VOC_CLASSES, VOID, Dataset, voc_palette
from voclab.data.drawn import draw
from voclab.data.vocdevkit import TOY_MANIFEST
from voclab.errors import VoclabError
from voclab.options import one_of

__all__ = [
    "DRAWN",
    "EMBEDDED",
    "NAMES",
    "SINGLE_LABEL",
    "SOURCES",
    "TOYCIFAR_MANIFEST",
    "TOY_MANIFEST",
    "VOC_CLASSES",
    "VOID",
    "Dataset",
    "Found",
    "Source",
    "count_objects",
    "find",
    "load",
    "test_split",
    "voc_palette",
]

TOYCIFAR_MANIFEST = cifar10.TOY_MANIFEST


@dataclass(frozen=True)
class Source:
    """A kind of data set: how its folder is known and how it is read.

    Attributes:
        recognise: folder -> (the folder to read from, what it holds, in words), or ``None``.
        read: (folder, split) -> :class:`Dataset`.
        test_split: the split that plays the competition's test set; nothing is chosen on it.
        single_label: whether each image shows one class.
        locate: project's data folder -> where the data lies in it, or ``None``. Without it the data is
            named by its path.
        count_objects: (folder, split) -> objects in each image, or ``None`` where no annotations count them.
    """

    recognise: Callable[[Path], tuple[Path, str] | None]
    read: Callable[[Path, str], Dataset]
    test_split: str
    single_label: bool = False
    locate: Callable[[Path], Path | None] | None = None
    count_objects: Callable[[Path, str], tuple[int, ...] | None] = lambda root, split: None


# The drawn data, by name: what people call it, the file that shows it was made, and its splits.
DRAWN = {"toyvoc": "ToyVOC", "toycifar": "ToyCIFAR"}
_MANIFESTS = {"toyvoc": TOY_MANIFEST, "toycifar": TOYCIFAR_MANIFEST}
_SPLITS = {"toyvoc": ("train", "val", "trainval", "test"), "toycifar": cifar10.SPLITS}


def _drawn(name: str, reader, **options) -> Source:
    """A drawn data set, which is generated when it is first read."""

    def recognise(root: Path) -> tuple[Path, str] | None:
        return (root, f"the generated {DRAWN[name]}") if (root / _MANIFESTS[name]).is_file() else None

    def read(root: Path, split: str) -> Dataset:
        if not recognise(root):
            one_of("split", split, _SPLITS[name])  # before it is drawn
            draw(name, root)
        return reader(root, split, name=name)

    return Source(recognise, read, **options)


# In the order in which a folder is tried.
SOURCES = {
    "toyvoc": _drawn("toyvoc", vocdevkit.read, test_split="val", count_objects=vocdevkit.count_objects),
    "toycifar": _drawn("toycifar", cifar10.read, test_split="test", single_label=True),
    "kaggle": Source(competition.recognise, competition.read, "test", locate=competition.locate),
    "voc2009": Source(
        vocdevkit.recognise,
        vocdevkit.read,
        "val",
        locate=vocdevkit.locate,
        count_objects=vocdevkit.count_objects,
    ),
    "cifar10": Source(cifar10.recognise, cifar10.read, "test", single_label=True, locate=cifar10.locate),
    "pairs": Source(pairs.recognise, pairs.read, "val", count_objects=pairs.count_objects),
    "folder": Source(folder.recognise, folder.read, "val", single_label=True),
}
NAMES = tuple(SOURCES)
SINGLE_LABEL = tuple(name for name, source in SOURCES.items() if source.single_label)
EMBEDDED = "embedded"  # what :func:`find` takes for the drawn data, whatever lies in the data folder


@dataclass(frozen=True)
class Found:
    """Which data is used: its name, its folder, and a sentence for people that says why."""

    name: str
    root: Path
    why: str


def load(name: str, root: str | Path | None = None, split: str = "train") -> Dataset:
    """Open a data set.

    Args:
        name: one of :data:`NAMES`. ``"voc2009"`` is a VOCdevkit tree of any year, or another tool's export
            in that layout; ``"kaggle"`` the competition's layout; ``"folder"`` a sub-folder of images a
            class; ``"pairs"`` images with masks or annotations. The drawn ``"toyvoc"`` and ``"toycifar"``
            are generated at ``root`` if they are not there.
        root: its folder; without it, where :func:`find` finds that name.
        split: ``"train"``, ``"val"``, ... as the source has them; see :func:`test_split`.

    Raises:
        VoclabError: unknown name, no such data, or damaged data.
    """
    source = _source(name)
    return source.read(find(name).root if root is None else Path(root), split)


def count_objects(name: str, root: str | Path, split: str = "train") -> tuple[int, ...] | None:
    """Objects in each image of a split, for ``info.describe``; ``None`` where no annotations count them."""
    return _source(name).count_objects(Path(root), split)


def test_split(name: str) -> str:
    """The split that plays the competition's test set; nothing is chosen on it."""
    return _source(name).test_split


def find(
    data: str | Path | None = None,
    base: str | Path = "data",
    kaggle_input: str | Path = "/kaggle/input",
    single_label: bool = False,
) -> Found:
    """Decide which data to use: what is named, Kaggle's input folder, ``base``, else what is drawn.

    Nothing is generated here; ToyVOC in ``base/toyvoc`` may not exist yet.

    Args:
        data: one of :data:`NAMES`, or a folder in one of their layouts, or :data:`EMBEDDED`.
        base: the project's data folder.
        kaggle_input: where Kaggle mounts competitions.
        single_label: look for images of one class each (CIFAR-10 in ``base``, else ToyCIFAR) where none
            are named.

    Raises:
        VoclabError: what is named is not there, or is no layout that can be read.
    """
    base, kaggle_input = Path(base), Path(kaggle_input)
    drawn = "toycifar" if single_label else "toyvoc"
    if data is not None and str(data) != EMBEDDED:
        return _find_named(str(data), base, kaggle_input) if str(data) in NAMES else _recognise(Path(data))
    if data is not None:
        return _find_drawn(drawn, base, f"{drawn} was named, so it is")
    if single_label:
        places = [("cifar10", base)]
    else:
        places = [("kaggle", kaggle_input), ("kaggle", base), ("voc2009", base)]
    for name, place in places:
        if root := SOURCES[name].locate(place):
            if place == kaggle_input:
                return Found(name, root, f"the competition's data is mounted at {root}")
            what = SOURCES[name].recognise(root)[1]
            return Found(name, root, f"no data was named, and {root} holds {what}")
    missing = "no CIFAR-10 was" if single_label else "none was"
    reason = f"no data was named and {missing} found in {base}, so the embedded {DRAWN[drawn]} is"
    return _find_drawn(drawn, base, reason)


def _source(name: str) -> Source:
    if name not in NAMES:
        raise VoclabError(f"There is no data set {name!r}; choose one of {', '.join(NAMES)}.")
    return SOURCES[name]


def _find_named(name: str, base: Path, kaggle_input: Path) -> Found:
    if name in DRAWN:
        return _find_drawn(name, base, f"{name} was named, so it is")
    locate = SOURCES[name].locate
    if locate is None:
        raise VoclabError(f"{name} is a layout, not a data set; name the folder that holds the images.")
    places = (kaggle_input, base) if name == "kaggle" else (base,)
    root = next((found for place in places if (found := locate(place))), None)
    if root is None:
        more = " --competition SLUG" if name == "kaggle" else ""
        raise VoclabError(
            f"{name} was named, but it is not in {' or '.join(map(str, places))}; run `voclab data fetch"
            f" {name}{more}` or name the folder that holds it."
        )
    return Found(name, root, f"{name} was named, and {root} holds {SOURCES[name].recognise(root)[1]}")


def _find_drawn(name: str, base: Path, reason: str) -> Found:
    root = base / name
    there = (root / _MANIFESTS[name]).is_file()
    return Found(name, root, f"{reason} {'read from' if there else 'generated in'} {root}")


def _recognise(path: Path) -> Found:
    if not path.exists():
        raise VoclabError(
            f"There is no folder {path}, and no data set of that name; correct the path, or choose one of"
            f" {', '.join(name for name in NAMES if name in DRAWN or SOURCES[name].locate)}."
        )
    for name, source in SOURCES.items() if path.is_dir() else ():
        if found := source.recognise(path):
            root, what = found
            return Found(name, root, f"{path} was named and holds {what}")
    raise VoclabError(
        f"{path} is no folder with VOCdevkit/VOC20xx, JPEGImages and SegmentationClass or Annotations, images"
        f" and masks of the same names, train/{competition.TRAIN_CSV}, CIFAR-10's batches, {TOY_MANIFEST},"
        f" {TOYCIFAR_MANIFEST} or a sub-folder with images for each class; correct the name."
    )
