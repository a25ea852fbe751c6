"""Where images come from: one reader per source, one :class:`Dataset` out, and where to look for data."""

from dataclasses import dataclass
from pathlib import Path

from voclab.data import cifar10, folder, pairs, vocdevkit
from voclab.data import competition as kaggle
from voclab.data.base import VOC_CLASSES, VOID, Dataset, voc_palette
from voclab.data.samples import subfolders
from voclab.errors import VoclabError
from voclab.options import one_of

__all__ = [
    "EMBEDDED",
    "NAMES",
    "PICTURES",
    "VOC_CLASSES",
    "VOID",
    "Dataset",
    "Found",
    "count_objects",
    "find",
    "load",
    "test_split",
    "voc_palette",
]

NAMES = ("voc2009", "kaggle", "toyvoc", "cifar10", "toycifar", "folder", "pairs")
SINGLE_LABEL = ("cifar10", "toycifar", "folder")  # those whose images show one class each
EMBEDDED = "embedded"  # what :func:`find` takes for the drawn data, whatever lies in the data folder
TOY_FOLDER, TOY_MANIFEST = "toyvoc", "toyvoc.json"
TOYCIFAR_MANIFEST = "toycifar.json"


@dataclass(frozen=True)
class Found:
    """Which data is used: its name, its folder, and a sentence for people that says why."""

    name: str
    root: Path
    why: str


def load(name: str, root: str | Path | None = None, split: str = "train") -> Dataset:
    """Open a data set.

    Args:
        name: ``"voc2009"`` (a VOCdevkit tree of any year, or another tool's export in that layout, reads
            the same way), ``"kaggle"`` (the competition's layout), ``"cifar10"``, ``"folder"`` (a sub-folder
            of images a class), ``"pairs"`` (images with masks or annotations), or one of the drawn
            ``"toyvoc"`` and ``"toycifar"``, which are generated at ``root`` if they are not there.
        root: its folder; without it, where :func:`find` finds that name.
        split: ``"train"``, ``"val"``, ... as the source has them; see :func:`test_split`.

    Raises:
        VoclabError: unknown name, no such data, or damaged data.
    """
    if root is None:
        root = find(_known(name)).root
    root = Path(root)
    if name == "kaggle":
        return kaggle.read(root, split)
    if name == "voc2009":
        return vocdevkit.read(root, split)
    if name == "cifar10":
        return cifar10.read(root, split)
    if name == "folder":
        return folder.read(root, split)
    if name == "pairs":
        return pairs.read(root, split)
    if name == "toycifar":
        if not (root / TOYCIFAR_MANIFEST).is_file():
            one_of("split", split, ("train", "test"))  # before it is drawn
            from toyvoc.cifar import make_toycifar

            make_toycifar(root)
        return cifar10.read(root, split, name="toycifar")
    if _known(name) == "toyvoc" and not (root / TOY_MANIFEST).is_file():
        one_of("split", split, ("train", "val", "trainval", "test"))
        from toyvoc.voc import make_toyvoc

        make_toyvoc(root)
    return vocdevkit.read(root, split, name="toyvoc")


def count_objects(name: str, root: str | Path, split: str = "train") -> tuple[int, ...] | None:
    """Objects in each image of a split, for ``info.describe``; ``None`` where no annotations count them."""
    if name == "pairs":
        return pairs.count_objects(root, split)
    return vocdevkit.count_objects(root, split) if _known(name) in ("voc2009", "toyvoc") else None


def test_split(name: str) -> str:
    """The split that plays the competition's test set; nothing is chosen on it."""
    return "val" if _known(name) in ("voc2009", "toyvoc", "folder", "pairs") else "test"


def find(
    data: str | Path | None = None,
    base: str | Path = "data",
    kaggle_input: str | Path = "/kaggle/input",
    single_label: bool = False,
) -> Found:
    """Decide which data to use: what is named, Kaggle's input folder, ``base``, else what is drawn.

    Nothing is generated here; ToyVOC in ``base/toyvoc`` may not exist yet.

    Args:
        data: one of :data:`NAMES`, or a folder in the competition's layout, with a VOCdevkit or a tree in
            its layout, with CIFAR-10's batches, of ToyVOC or ToyCIFAR, with images and masks or annotations
            of the same names, or with a sub-folder of images a class; or :data:`EMBEDDED`.
        base: the project's data folder.
        kaggle_input: where Kaggle mounts competitions.
        single_label: look for images of one class each (CIFAR-10 in ``base``, else ToyCIFAR) where none
            are named.

    Raises:
        VoclabError: what is named is not there, or is no layout that can be read.
    """
    base, kaggle_input = Path(base), Path(kaggle_input)
    if str(data) == EMBEDDED:
        data = "toycifar" if single_label else "toyvoc"
    if data is not None and str(data) in NAMES:
        return _find_named(str(data), base, kaggle_input)
    if data is not None:
        found = _recognise(Path(data))
        if found is None and not Path(data).exists():
            raise VoclabError(
                f"There is no folder {data}, and no data set of that name; correct the path, or choose one of"
                f" {', '.join(name for name in NAMES if name not in ('folder', 'pairs'))}."
            )
        if found is None:
            raise VoclabError(
                f"{data} is no folder with VOCdevkit/VOC20xx, JPEGImages"
                " and SegmentationClass or Annotations, images and masks of the same names,"
                f" train/{kaggle.TRAIN_CSV}, CIFAR-10's batches, {TOY_MANIFEST}, {TOYCIFAR_MANIFEST} or"
                " a sub-folder with images for each class; correct the name."
            )
        name, root, what = found
        return Found(name, root, why=f"{data} was named and holds {what}")
    if single_label:
        root = _cifar_root(base)
        if root:
            return Found("cifar10", root, f"no data was named, and {root} holds {_LAYOUTS['cifar10']}")
        return _toycifar(base, f"no data was named and no CIFAR-10 was found in {base}, so ToyCIFAR is")
    root = _competition(kaggle_input, depth=2)
    if root:
        return Found("kaggle", root, f"the competition's data is mounted at {root}")
    root = _competition(base, depth=2)
    if root:
        return Found("kaggle", root, f"no data was named, and {root} holds {_LAYOUTS['kaggle']}")
    root = _voc_root(base)
    if root:
        return Found("voc2009", root, f"no data was named, and {root} holds {_LAYOUTS['voc2009']}")
    return _toy(base, f"no data was named and none was found in {base}, so the embedded ToyVOC is")


_LAYOUTS = {
    "kaggle": "the competition's layout",
    "voc2009": "a VOCdevkit tree",
    "toyvoc": "the generated ToyVOC",
    "cifar10": "the batches of CIFAR-10",
    "toycifar": "the generated ToyCIFAR",
    "folder": "a sub-folder of images for each class",
    "pairs": "images with masks or annotations",
}


def _known(name: str) -> str:
    if name not in NAMES:
        raise VoclabError(f"There is no data set {name!r}; choose one of {', '.join(NAMES)}.")
    return name


def _find_named(name: str, base: Path, kaggle_input: Path) -> Found:
    if name == "toyvoc":
        return _toy(base, "toyvoc was named, so it is")
    if name in ("folder", "pairs"):
        raise VoclabError(f"{_LAYOUTS[name].capitalize()} is named by its path, not by the word {name}.")
    if name == "toycifar":
        return _toycifar(base, "toycifar was named, so it is")
    if name == "kaggle":
        root = _competition(kaggle_input, depth=2) or _competition(base, depth=2)
        where, remedy = f"{kaggle_input} and {base}", "voclab data fetch kaggle --competition SLUG"
    else:
        root = _voc_root(base) if name == "voc2009" else _cifar_root(base)
        where, remedy = str(base), f"voclab data fetch {name}"
    if root is None:
        raise VoclabError(
            f"{name} was named, but it is not in {where}; run `{remedy}` or name the folder that holds it."
        )
    return Found(name, root, f"{name} was named, and {root} holds {_LAYOUTS[name]}")


def _toy(base: Path, reason: str) -> Found:
    root = base / TOY_FOLDER
    there = (root / TOY_MANIFEST).is_file()
    return Found("toyvoc", root, f"{reason} {'read from' if there else 'generated in'} {root}")


def _toycifar(base: Path, reason: str) -> Found:
    root = base / "toycifar"
    there = (root / TOYCIFAR_MANIFEST).is_file()
    return Found("toycifar", root, f"{reason} {'read from' if there else 'generated in'} {root}")


def _recognise(path: Path) -> tuple[str, Path, str] | None:
    """(name, folder, what it holds) of the layout in a folder; ``None`` where it is none of them."""
    if not path.is_dir():
        return None
    name, root = None, path
    if (path / TOY_MANIFEST).is_file():
        name = "toyvoc"
    elif (path / TOYCIFAR_MANIFEST).is_file():
        name = "toycifar"
    elif found := _competition(path, depth=2):
        name, root = "kaggle", found
    elif vocdevkit.is_toyvoc(path) or (path / kaggle.MANIFEST).is_file():
        command = f"make --root {path}" if vocdevkit.is_toyvoc(path) else f"export --to {path}"
        raise VoclabError(
            f"{path} holds data that `voclab data {command}` did not finish; give that command again."
        )
    elif vocdevkit.has_tree(path):
        return "voc2009", path, vocdevkit.describe_trees(path)
    elif found := _cifar_root(path):
        name, root = "cifar10", found
    elif layout := pairs.find(path):
        return "pairs", path, pairs.describe(layout)
    elif folder.is_folder(path):
        pairs.require_images(path, folder.bases(path))
        name = "folder"
    else:
        cifar10.refuse_cifar100(path)
    return name and (name, root, _LAYOUTS[name])


def _competition(folder: Path, depth: int) -> Path | None:
    """The first folder in the competition's layout, ``folder`` itself or up to ``depth`` levels below.

    Hidden folders do not count: the half of an archive that a killed process left is in one.
    """
    for level in range(depth + 1):
        pattern = "/".join(["[!.]*"] * level + ["train", kaggle.TRAIN_CSV])
        for csv_path in sorted(folder.glob(pattern)):
            return csv_path.parent.parent
    return None


def _voc_root(folder: Path) -> Path | None:
    """``folder`` or the first folder in it that holds a tree of VOC's name which is not ToyVOC's."""
    if not folder.is_dir():
        return None
    for root in (folder, *subfolders(folder)):
        if not vocdevkit.is_toyvoc(root) and vocdevkit.of_a_year(root):
            return root
    return None


def _cifar_root(folder: Path) -> Path | None:
    """``folder`` or the first folder in it that holds batches of CIFAR-10 which are not ToyCIFAR's."""
    if not folder.is_dir() or (folder / TOYCIFAR_MANIFEST).is_file():
        return None
    for root in (folder, *subfolders(folder)):
        if not (root / TOYCIFAR_MANIFEST).is_file() and cifar10.tree(root):
            return root
    return None
