"""Reads trees in the layout of the PASCAL VOC devkit: lists, JPEG images, masks, annotations.

Layout and meaning of the files follow the devkit's documentation (VOC 2009 development kit, sections
2 and 3). The segmentation lists are used, since they are the assignment's images; a tree without them
is read by its ``Main`` lists. The exports of other tools in this layout are known by what they hold:
``JPEGImages`` with ``SegmentationClass`` or ``Annotations``, under any name, with a label map and
without lists.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from voclab.data import labelmap, masks, samples
from voclab.data.base import VOC_CLASSES, Dataset, refusal, voc_palette
from voclab.data.decoding import SUFFIXES
from voclab.data.listing import PARTS, files, is_litter, part_named, subfolders
from voclab.data.lists import more, read_list, require_apart
from voclab.data.samples import Sample
from voclab.errors import VoclabError

YEARS = tuple(range(2007, 2013))
PREFERRED_YEAR = 2009
LEVELS = 3  # below the folder that is named
TOY_MANIFEST, TOY_MARKER = "toyvoc.json", ".toyvoc-in-progress.json"
_IMAGES, _LISTS, _ANNOTATIONS = "JPEGImages", "ImageSets", "Annotations"
# The first that has every mask is taken: labelme once wrote arrays in the first and images in the second.
_MASKS = (
    "SegmentationClass", "SegmentationClassPNG", "SegmentationClassAug", "SegmentationClassRaw",
    "SegmentationClassNpy",
)  # fmt: skip
_KINDS = ("Segmentation", "Main")
_CLASS_LIST = re.compile(r"([^/]+)_(train|val|trainval|test)")  # of Main: -1, 0 or 1 an image
_PALETTE = voc_palette().tobytes()


def locate(folder: Path) -> Path | None:
    """``folder`` or the first folder in it that holds a tree of VOC's name which is not ToyVOC's."""
    for root in (folder, *subfolders(folder)) if folder.is_dir() else ():
        if not _is_toyvoc(root) and _years(root):
            return root
    return None


def recognise(root: Path) -> tuple[Path, str] | None:
    """``root`` and which tree in it is read, in words; ``None`` without one. Errors as :func:`find_trees`."""
    if _is_toyvoc(root):
        held = f"holds data that `voclab data make --root {root}` did not finish"
        raise refusal(root, held, "give that command again")
    years, every = _years(root), _search(root)
    if not years and not every:
        return None
    trees = find_trees(root)
    if len(trees) > 1:
        return root, f"a tree in VOC's layout for each of {', '.join(trees)}"
    (tree,) = trees.values()
    what = "a VOCdevkit tree" if years else "a tree in VOC's layout"
    what += "" if tree == root else f", {tree.relative_to(root)}"
    others = sorted(other.name for other in {*years.values(), *every} if other != tree)
    return root, what + (f" (and {', '.join(others)}, not used)" if others else "")


def find_trees(root: Path) -> dict[str, Path]:
    """The tree in ``root`` as ``{"": tree}``, or a tree for each part, e.g. ``train`` and ``valid``.

    Args:
        root: a folder that is ``VOC20xx``, or holds ``VOC20xx`` or ``VOCdevkit/VOC20xx`` (of several years
            2009, then the newest); or one with a tree of any name, itself or up to three levels below.

    Raises:
        VoclabError: there is no such tree, or there are several that are no years.
    """
    if not root.is_dir():
        raise refusal(root, "is no folder", f"name the folder that holds VOCdevkit/VOC{PREFERRED_YEAR}")
    if trees := _years(root):
        return {"": _preferred(trees)}
    found = _search(root)
    years = {int(m[1]): tree for tree in found if (m := re.fullmatch(r"VOC(20\d\d)", tree.name))}
    if len(found) == 1:
        return {"": found[0]}
    if found and len(years) == len(found):
        return {"": _preferred(years)}
    if found and len({tree.parent for tree in found}) == 1 and all(t.name.casefold() in PARTS for t in found):
        return {tree.name: tree for tree in found}
    if found:
        names = ", ".join(str(tree.relative_to(root)) for tree in found)
        raise refusal(root, f"holds several trees in VOC's layout ({names})", "name one of them")
    raise refusal(
        root,
        f"holds no VOCdevkit/VOC{PREFERRED_YEAR} with JPEGImages and ImageSets, nor JPEGImages with"
        " SegmentationClass or Annotations",
        "name the folder the VOC archive was extracted into, or run `voclab data fetch voc2009`",
    )


def _is_toyvoc(root: Path) -> bool:
    """Whether a folder is the drawn ToyVOC, or what a killed process has made of one."""
    return (root / TOY_MANIFEST).is_file() or (root / TOY_MARKER).is_file()


def _preferred(trees: Mapping[int, Path]) -> Path:
    return trees.get(PREFERRED_YEAR) or trees[max(trees)]


def _years(root: Path) -> dict[int, Path]:
    trees: dict[int, Path] = {}
    absolute = root.resolve()
    for folder in (root, *(root / p / f"VOC{y}" for p in ("", "VOCdevkit") for y in YEARS)):
        # The real name, so that "." inside VOC2009 is recognised too.
        year = re.fullmatch(r"VOC(20\d\d)", absolute.name if folder == root else folder.name)
        complete = (folder / _IMAGES).is_dir() and (folder / _LISTS).is_dir()
        if year and int(year[1]) in YEARS and complete:
            trees.setdefault(int(year[1]), folder)
    return trees


def _search(root: Path) -> list[Path]:
    """Trees by what they hold: those of the first level that has any; the drawn ToyVOC is left out."""
    level = [root]
    for _ in range(LEVELS + 1):
        below = {folder: subfolders(folder) for folder in level if not _is_toyvoc(folder)}
        if trees := [folder for folder, inside in below.items() if _is_tree(inside)]:
            return trees
        level = [f for inside in below.values() for f in inside]
    return []


def _is_tree(inside: Sequence[Path]) -> bool:
    names = {folder.name.casefold() for folder in inside}
    truth = {name.casefold() for name in (*_MASKS, _ANNOTATIONS)}
    return _IMAGES.casefold() in names and bool(names & truth)


def _is_of_a_year(tree: Path) -> bool:
    return re.fullmatch(r"VOC20\d\d", tree.resolve().name) is not None


def _child(folder: Path, name: str) -> Path:
    """``folder/name``, or what is called so in other letters' case."""
    if (folder / name).exists() or not folder.is_dir():
        return folder / name
    return next((p for p in folder.iterdir() if p.name.casefold() == name.casefold()), folder / name)


@dataclass(frozen=True)
class _Part:
    """The images of a split: which, from which list (``None`` without lists), and in whose words."""

    tree: Path
    truth: Path
    ids: tuple[str, ...]
    path: Path | None
    where: str

    def _found(self) -> tuple[tuple[Path, dict[str, Path]], ...]:
        """(folder, files by name) of the images, of the masks and of the annotations."""
        images, xmls = _child(self.tree, _IMAGES), _child(self.truth, _ANNOTATIONS)
        masked = _mask_files(self.truth, self.ids)
        return (images, files(images, SUFFIXES)), masked, (xmls, files(xmls, (".xml",)))

    def samples(self) -> list[Sample]:
        """The files of each image, as far as they are there."""
        (_, images), (_, drawn), (_, xmls) = self._found()
        return [Sample(i, images.get(i, self.tree), drawn.get(i), xmls.get(i)) for i in self.ids]

    def require_files(self, split: str) -> None:
        """Refuse a list that names an image whose file, mask or annotation is missing."""
        (image_folder, images), (mask_folder, drawn), (xml_folder, xmls) = self._found()
        self._require(image_folder, images, ".jpg")
        segmented = self.path is not None and self.path.parent.name.casefold() == "segmentation"
        if segmented and (drawn.keys() & set(self.ids) or split != "test"):
            self._require(mask_folder, drawn, ".png")
        if xmls.keys() & set(self.ids) or (xmls and split != "test"):
            self._require(xml_folder, xmls, ".xml")

    def _require(self, folder: Path, there: Collection[str], suffix: str) -> None:
        absent = [image for image in self.ids if image not in there]
        if absent:
            missing = f"names {absent[0]}, but {folder / (absent[0] + suffix)} is missing{more(absent)}"
            raise refusal(self.path or self.where, missing, "restore the file or take it off the list")


def read(root: str | Path, split: str, name: str = "voc2009") -> Dataset:
    """The images of one list, with labels and masks.

    Labels come from ``Annotations`` (objects marked ``difficult`` do not count) or, where the tree has
    none, from the masks; ``Dataset.source`` says which. A test list whose truth is not in the tree has
    ``labels`` and ``read_mask`` ``None``. ToyVOC (``toyvoc.json``) keeps that truth in ``truth/VOC2009``.
    In a tree that has ``Main`` lists only, ``mask(i)`` is ``None`` for an image that nobody segmented.

    The classes are those of a label map (:mod:`voclab.data.labelmap`), else VOC's, else, in a tree
    without masks, those that the annotations name. Then the data set is called ``"voc"``.

    Args:
        root: see :func:`find_trees`; or a folder with a tree for each part, e.g. ``train`` and ``valid``.
        split: the name of a list, e.g. ``"train"``, ``"val"``, ``"trainval"``, ``"test"``. A tree without
            lists is split by a seed in ``train`` and ``val``.
        name: what VOC's own classes are called in results.

    Raises:
        VoclabError: no such tree or list, an empty list, ``train`` and ``val`` that share an image, a file
            that the list names is missing, a damaged annotation, an unknown class. Images, and masks that
            are VOC's, are checked when they are decoded.
    """
    root = Path(root)
    trees = find_trees(root)
    part = _part(trees, split)
    part.require_files(split)
    here = part.samples()
    others = [] if name == "toyvoc" else _others(trees, part, split)
    if split != "test" and not (here[0].annotation or all(sample.mask for sample in here)):
        raise refusal(
            part.tree,
            f"has neither Annotations nor a mask of every image in {part.where}, so there are no labels",
            "extract the whole VOC archive there",
        )
    above = [part.tree, *part.tree.parents]
    above = above[: above.index(root) + 1] if root in above else above[:1]
    found = samples.labelled(
        here,
        others,
        labelmap.find(above),
        _is_of_a_year(part.tree) or _are_vocs([*here, *others]),
        name=name,
        split=split,
        source=f"{len(here)} images of {part.where}",
    )
    return found if found.class_names == VOC_CLASSES else replace(found, name="voc")


def _are_vocs(every: Sequence[Sample]) -> bool:
    """Whether masks in a tree of another name are VOC's: annotations or VOC's palette say so."""
    masked = [sample for sample in every if sample.mask]
    return any(sample.annotation for sample in every) or not any(
        kind == "greys" and set(used) - {0} for _, kind, used in samples.scan(masked)
    )


def _others(trees: Mapping[str, Path], part: _Part, split: str) -> list[Sample]:
    """What other splits have by way of masks and annotations: they decide about the classes as well."""
    found = []
    for other in (name for name in ("train", "val", "test") if name != split):
        try:
            there = _part(trees, other)
        except VoclabError:
            continue  # no such list
        mine = set(part.ids) if there.tree == part.tree else set()
        if {split, other} == {"train", "val"}:
            require_apart(part.where, there.where, mine, there.ids)
        found += [sample for sample in there.samples() if sample.id not in mine]
    return found


def _mask_files(truth: Path, ids: Collection[str]) -> tuple[Path, dict[str, Path]]:
    """The folder of masks and its files by name."""
    folders = [folder for name in _MASKS if (folder := _child(truth, name)).is_dir()]
    found = [(folder, files(folder, masks.SUFFIXES)) for folder in folders]
    complete = [pair for pair in found if set(ids) <= pair[1].keys()]
    some = [pair for pair in found if set(ids) & pair[1].keys()]
    return next(iter((*complete, *some, *found)), (truth / _MASKS[0], {}))


def _part(trees: Mapping[str, Path], split: str) -> _Part:
    """Which images a split has, by the trees' names, by lists, or by a seed."""
    if "" not in trees:
        name = part_named(split, trees)
        if name is None:
            raise VoclabError(f"There is no tree for {split!r}; choose from: {', '.join(trees)}.")
        tree = trees[name]
        ids, left = _unlisted(tree)
        return _Part(tree, tree, ids, None, f"{tree.parent.name}/{tree.name}{left}")
    tree = trees[""]
    lists = _lists(tree)
    path = _list_path(tree, lists, split)
    images = files(_child(tree, _IMAGES), SUFFIXES)
    if path is not None:
        where = "/".join((tree.name, *path.relative_to(tree).parts))
        where = f"VOCdevkit/{where}" if _is_of_a_year(tree) else where
        return _Part(tree, _truth_folder(tree, split), read_list(path, images), path, where)
    whole = [p for n, p in lists.items() if n.casefold() not in PARTS]
    if whole:
        ids = tuple(dict.fromkeys(i for p in whole for i in read_list(p, images)))
        words = f" ({', '.join(p.name for p in whole)})"
    else:
        ids, words = _unlisted(tree)
    where = f"{tree.resolve().name}{words}, where {samples.SPLIT_BY_SEED}"
    return _Part(tree, tree, samples.split_by_seed(ids, split), whole[0] if whole else None, where)


def _unlisted(tree: Path) -> tuple[tuple[str, ...], str]:
    """The images of a tree without lists that have a mask or, without masks, an annotation; what is left."""
    images = files(_child(tree, _IMAGES), SUFFIXES)
    what, known = "mask", _mask_files(tree, images)[1]
    if not known:
        what, known = "annotation", files(_child(tree, _ANNOTATIONS), (".xml",))
    ids = tuple(sorted(i for i in images if i in known))
    if not ids:
        lacks = "has no image in JPEGImages with a mask or an annotation of its name"
        raise refusal(tree, lacks, "restore the files")
    left = len(images) - len(ids)
    return ids, f" ({left} without {what} left out)" if left else ""


def _lists(tree: Path) -> dict[str, Path]:
    """The lists that are splits, by name, of the first folder that has any."""
    folder = _child(tree, _LISTS)
    if not folder.is_dir():
        return {}
    known = [_child(folder, kind) for kind in _KINDS]
    for kind in (*known, folder, *(f for f in subfolders(folder) if f not in known)):
        paths = sorted(p for p in kind.glob("*.[tT][xX][tT]") if not is_litter(p.name))
        if lists := {p.stem: p for p in paths if not _CLASS_LIST.fullmatch(p.stem)}:
            return lists
        if paths:  # of classes only, each of which names every image of its split
            return {_CLASS_LIST.fullmatch(p.stem)[2]: p for p in reversed(paths)}
    return {}


def _list_path(tree: Path, lists: Mapping[str, Path], split: str) -> Path | None:
    """The list of a split; ``None`` where nobody divided the images, so that a seed must."""
    if split in lists:
        return lists[split]
    of_class = _child(_child(tree, _LISTS), "Main") / f"{split}.txt"
    if _CLASS_LIST.fullmatch(split) and of_class.is_file():
        return of_class
    words = {PARTS[name.casefold()] for name in lists if name.casefold() in PARTS}
    if split in ("train", "val") and not words:
        return None
    whole = next((path for name, path in lists.items() if name.casefold() == "trainval"), None)
    if split == "train" and words == {"test"} and whole:
        return whole
    if split in PARTS and (name := part_named(split, lists)):
        return lists[name]
    folder = next(iter(lists.values())).parent if lists else _child(tree, _LISTS)
    choices = ", ".join(sorted(lists)) or "train, val"
    raise refusal(folder, f"has no list {split}.txt", f"choose from: {choices}")


def _truth_folder(tree: Path, split: str) -> Path:
    for root in (tree.parent, tree.parent.parent):
        if split == "test" and (root / TOY_MANIFEST).is_file():
            return root / "truth" / tree.name
    return tree


def count_objects(root: str | Path, split: str) -> tuple[int, ...] | None:
    """Objects in each image of a split, difficult ones included; ``None`` without Annotations."""
    return samples.count_objects(_part(find_trees(Path(root)), split).samples())


def encode_mask(mask: np.ndarray) -> bytes:
    """A label map (H, W) uint8 as a PNG with VOC's palette, as the devkit stores masks."""
    image = Image.fromarray(mask)
    image.putpalette(_PALETTE)  # of grey values it makes indices
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
