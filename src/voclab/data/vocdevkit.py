"""Reads trees in the layout of the PASCAL VOC devkit: lists, JPEG images, masks, annotations.

Layout and meaning of the files follow the devkit's documentation (VOC 2009 development kit, sections
2 and 3). The segmentation lists are used, since they are the assignment's images; a tree without them
is read by its ``Main`` lists. The exports of other tools in this layout are known by what they hold:
``JPEGImages`` with ``SegmentationClass`` or ``Annotations``, under any name, with a label map and
without lists.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from voclab.data import annotations, labelmap, masks, samples
from voclab.data.base import VOC_CLASSES, Dataset, voc_palette
from voclab.data.listing import is_litter
from voclab.data.samples import IMAGE_SUFFIXES, PARTS, Sample
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
_CLASS_LIST = re.compile(r".+_(train|val|trainval|test)")  # Main has one a class, with -1, 0 or 1 an image
_FLAGS = ("-1", "0", "1", "+1")
_PALETTE = voc_palette().tobytes()


def find_tree(root: str | Path, year: int | str | None = None) -> Path:
    """The one tree in ``root``.

    Args:
        root: a folder that is ``VOC20xx``, or holds ``VOC20xx`` or ``VOCdevkit/VOC20xx``; or one with a
            tree of any name, itself or up to three levels below.
        year: 2007 to 2012; without it 2009 is preferred, then the newest that is there.

    Raises:
        VoclabError: there is no such tree, not of that year, or several that are no years.
    """
    trees = _find_trees(Path(root), year)
    if len(trees) > 1:
        raise VoclabError(f"{root} holds trees for {', '.join(trees)}; name one of them.")
    return next(iter(trees.values()))


def locate(folder: Path) -> Path | None:
    """``folder`` or the first folder in it that holds a tree of VOC's name which is not ToyVOC's."""
    for root in (folder, *samples.subfolders(folder)) if folder.is_dir() else ():
        if not _is_toyvoc(root) and _years(root):
            return root
    return None


def _is_toyvoc(root: Path) -> bool:
    """Whether a folder is the drawn ToyVOC, or what a killed process has made of one."""
    return (root / TOY_MANIFEST).is_file() or (root / TOY_MARKER).is_file()


def recognise(root: Path) -> tuple[Path, str] | None:
    """``root`` and which tree in it is read, in words; ``None`` without one. Errors as :func:`find_tree`."""
    if _is_toyvoc(root):
        raise VoclabError(
            f"{root} holds data that `voclab data make --root {root}` did not finish; give that command"
            " again."
        )
    return (root, _describe(root)) if _years(root) or _search(root) else None


def _describe(root: Path) -> str:
    trees = _find_trees(root)
    if len(trees) > 1:
        return f"a tree in VOC's layout for each of {', '.join(trees)}"
    (tree,) = trees.values()
    what = "a VOCdevkit tree" if _years(root) else "a tree in VOC's layout"
    what += "" if tree == root else f", {tree.relative_to(root)}"
    others = [other for other in {*_years(root).values(), *_search(root)} if other != tree]
    return what + (f" (and {', '.join(sorted(t.name for t in others))}, not used)" if others else "")


def _find_trees(root: Path, year: int | str | None = None) -> dict[str, Path]:
    """The tree in ``root`` as ``{"": tree}``, or a tree for each part, e.g. ``train`` and ``valid``."""
    if not root.is_dir():
        raise VoclabError(f"{root} is no folder; name the folder that holds VOCdevkit/VOC{PREFERRED_YEAR}.")
    trees = _years(root)
    if year is not None:
        if not str(year).isdigit() or int(year) not in YEARS:
            raise VoclabError(f"VOC year {year} is not supported; choose one of {YEARS[0]} to {YEARS[-1]}.")
        if int(year) in trees:
            return {"": trees[int(year)]}
    elif trees:
        return {"": _preferred(trees)}
    elif found := _search(root):
        years = {int(m[1]): tree for tree in found if (m := re.fullmatch(r"VOC(20\d\d)", tree.name))}
        if len(found) == 1 or len(years) == len(found):
            return {"": found[0] if len(found) == 1 else _preferred(years)}
        if len({tree.parent for tree in found}) == 1 and all(t.name.casefold() in PARTS for t in found):
            return {tree.name: tree for tree in found}
        names = ", ".join(str(tree.relative_to(root)) for tree in found)
        raise VoclabError(f"{root} holds several trees in VOC's layout ({names}); name one of them.")
    wanted = f"VOC{PREFERRED_YEAR if year is None else year}"
    there = ", ".join(f"VOC{y}" for y in sorted(trees))
    raise VoclabError(
        f"{root} holds no VOCdevkit/{wanted} with JPEGImages and ImageSets"
        + (f" (only {there})" if there else ", nor JPEGImages with SegmentationClass or Annotations")
        + "; name the folder the VOC archive was extracted into, or run `voclab data fetch voc2009`."
    )


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
    level = [root] if root.is_dir() and not _is_toyvoc(root) else []
    for depth in range(LEVELS + 1):
        below = {folder: samples.subfolders(folder) for folder in level}
        trees = [folder for folder, inside in below.items() if _is_tree(inside)]
        if trees or depth == LEVELS:
            return trees
        level = [f for inside in below.values() for f in inside if not _is_toyvoc(f)]
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

    @property
    def segmented(self) -> bool:
        return self.path is not None and self.path.parent.name.casefold() == "segmentation"


def read(root: str | Path, split: str, year: int | str | None = None, name: str = "voc2009") -> Dataset:
    """The images of one list, with labels and masks.

    Labels come from ``Annotations`` (objects marked ``difficult`` do not count) or, where the tree has
    none, from the masks; ``Dataset.source`` says which. A test list whose truth is not in the tree has
    ``labels`` and ``read_mask`` ``None``. ToyVOC (``toyvoc.json``) keeps that truth in ``truth/VOC2009``.
    In a tree that has ``Main`` lists only, ``mask(i)`` is ``None`` for an image that nobody segmented.

    The classes are those of a label map (:mod:`voclab.data.labelmap`), else VOC's, else, in a tree
    without masks, those that the annotations name. Then the data set is called ``"voc"``.

    Args:
        root: see :func:`find_tree`; or a folder with a tree for each part, e.g. ``train`` and ``valid``.
        split: the name of a list, e.g. ``"train"``, ``"val"``, ``"trainval"``, ``"test"``. A tree without
            lists is split by a seed in ``train`` and ``val``.
        year: see :func:`find_tree`.
        name: what VOC's own classes are called in results.

    Raises:
        VoclabError: no such tree or list, an empty list, ``train`` and ``val`` that share an image, a file
            that the list names is missing, a damaged annotation, an unknown class. Images, and masks that
            are VOC's, are checked when they are decoded.
    """
    root = Path(root)
    trees = _find_trees(root, year)
    part = _part(trees, split)
    here = _samples(part, split)
    others = [] if name == "toyvoc" else _others(trees, part, split)
    every = [*here, *others]
    legend, names, classes = _classes(root, part, every)
    if here[0].annotation:
        labels = annotations.labels(samples.annotated(here), names)
        origin = "labels from Annotations, without difficult objects"
    elif all(sample.mask for sample in here):
        labels = samples.labels_from(samples.scan(here), legend)
        origin = "labels from the masks, because there are no Annotations"
    elif split == "test":
        labels, origin = None, "without truth"
    else:
        raise VoclabError(
            f"{part.tree} has neither Annotations nor a mask of every image in {part.where}, so there are no"
            " labels; extract the whole VOC archive there."
        )
    return samples.dataset(
        here,
        legend if any(sample.mask for sample in here) else None,
        names,
        labels,
        name=name if names == VOC_CLASSES else "voc",
        split=split,
        source=f"{len(here)} images of {part.where}; {origin}{classes}",
    )


def _classes(
    root: Path, part: _Part, every: Sequence[Sample]
) -> tuple[masks.Legend | None, tuple[str, ...], str]:
    """What the masks mean (``None`` without masks), the classes, and who says so; alike for every split."""
    above = [part.tree, *part.tree.parents]
    above = above[: above.index(root) + 1] if root in above else above[:1]
    found = labelmap.find(above)
    masked = [sample for sample in every if sample.mask]
    if found is not None and not found.is_voc:
        legend = masks.legend_of(found)
        if masked:
            legend = masks.fitted(legend, samples.scan(masked))
        return legend if masked else None, found.class_names, f"; classes from {found.path.name}"
    objects = samples.annotated([sample for sample in every if sample.annotation])
    if found is None and masked and not objects and not _is_of_a_year(part.tree):
        stored = samples.scan(masked)
        if any(kind == "greys" and set(used) - {0} for _, kind, used in stored):
            legend = masks.generic_legend(stored)
            return legend, legend.class_names, f"; classes from {legend.origin}, for no label map names them"
    names = annotations.class_names(objects)
    if names != VOC_CLASSES and (masked or found is not None):
        annotations.labels(objects, VOC_CLASSES)  # names the file, for the masks know no such class
    words = "" if names == VOC_CLASSES else "; classes from the annotations"
    if found is not None:
        words = f"; VOC's classes, as in {found.path.name}"
    return masks.voc_legend() if masked else None, names, words


def _samples(part: _Part, split: str) -> list[Sample]:
    """The files of each image of a part; every one is there."""
    images = samples.files(_child(part.tree, _IMAGES), IMAGE_SUFFIXES)
    mask_folder, found = _mask_files(part.truth, part.ids)
    xml_folder = _child(part.truth, _ANNOTATIONS)
    xmls = samples.files(xml_folder, (".xml",))
    _require(part, _child(part.tree, _IMAGES), images, ".jpg")
    if part.segmented and (found.keys() & set(part.ids) or split != "test"):
        _require(part, mask_folder, found, ".png")
    if xmls.keys() & set(part.ids) or (xmls and split != "test"):
        _require(part, xml_folder, xmls, ".xml")
    return [Sample(i, images[i], found.get(i), xmls.get(i)) for i in part.ids]


def _others(trees: Mapping[str, Path], part: _Part, split: str) -> list[Sample]:
    """What other splits have by way of masks and annotations: they decide about the classes as well."""
    found = []
    for other in ("train", "val", "test"):
        if other == split:
            continue
        try:
            there = _part(trees, other)
        except VoclabError:
            continue  # no such list
        _, mask_files = _mask_files(there.truth, there.ids)
        xmls = samples.files(_child(there.truth, _ANNOTATIONS), (".xml",))
        mine = set(part.ids) if there.tree == part.tree else set()
        both = [i for i in there.ids if i in mine] if {split, other} == {"train", "val"} else []
        if both:
            raise VoclabError(
                f"{part.where} and {there.where} both have {both[0]}{_more(both)}; take it out of one, for"
                " val must hold images that were not trained on."
            )
        found += [Sample(i, there.tree, mask_files.get(i), xmls.get(i)) for i in there.ids if i not in mine]
    return found


def _mask_files(truth: Path, ids: Collection[str]) -> tuple[Path, dict[str, Path]]:
    """The folder of masks and its files by name."""
    folders = [folder for name in _MASKS if (folder := _child(truth, name)).is_dir()]
    found = [(folder, samples.files(folder, masks.SUFFIXES)) for folder in folders]
    complete = [pair for pair in found if set(ids) <= pair[1].keys()]
    some = [pair for pair in found if set(ids) & pair[1].keys()]
    return next(iter((*complete, *some, *found)), (truth / _MASKS[0], {}))


def _part(trees: Mapping[str, Path], split: str) -> _Part:
    """Which images a split has, by the trees' names, by lists, or by a seed."""
    if "" not in trees:
        name = samples.part_named(split, trees)
        if name is None:
            raise VoclabError(f"There is no tree for {split!r}; choose from: {', '.join(trees)}.")
        tree = trees[name]
        ids, left = _unlisted(tree)
        return _Part(tree, tree, ids, None, f"{tree.parent.name}/{tree.name}{left}")
    tree = trees[""]
    lists = _lists(tree)
    path = _list_path(tree, lists, split)
    if path is not None:
        images = samples.files(_child(tree, _IMAGES), IMAGE_SUFFIXES)
        where = "/".join((tree.name, *path.relative_to(tree).parts))
        where = f"VOCdevkit/{where}" if _is_of_a_year(tree) else where
        return _Part(tree, _truth_folder(tree, split), read_list(path, images), path, where)
    whole = [p for n, p in lists.items() if n.casefold() not in PARTS]
    images = samples.files(_child(tree, _IMAGES), IMAGE_SUFFIXES)
    if whole:
        ids, left = tuple(dict.fromkeys(i for p in whole for i in read_list(p, images))), ""
    else:
        ids, left = _unlisted(tree)
    names = f" ({', '.join(p.name for p in whole)})" if whole else ""
    where = f"{tree.resolve().name}{names}{left}, where {samples.SPLIT_BY_SEED}"
    return _Part(tree, tree, samples.split_by_seed(ids, split), whole[0] if whole else None, where)


def _unlisted(tree: Path) -> tuple[tuple[str, ...], str]:
    """The images of a tree without lists that have a mask or, without masks, an annotation; what is left."""
    images = samples.files(_child(tree, _IMAGES), IMAGE_SUFFIXES)
    _, found = _mask_files(tree, images)
    what, known = (
        ("mask", found) if found else ("annotation", samples.files(_child(tree, _ANNOTATIONS), (".xml",)))
    )
    ids = tuple(i for i in images if i in known)
    if not ids:
        raise VoclabError(
            f"{tree} has no image in JPEGImages with a mask or an annotation of its name; restore the files."
        )
    left = len(images) - len(ids)
    return tuple(sorted(ids)), f" ({left} without {what} left out)" if left else ""


def _lists(tree: Path) -> dict[str, Path]:
    """The lists that are splits, by name, of the first folder that has any."""
    folder = _child(tree, _LISTS)
    if not folder.is_dir():
        return {}
    others = [
        f for f in samples.subfolders(folder) if f.name.casefold() not in {k.casefold() for k in _KINDS}
    ]
    for kind in (*(_child(folder, kind) for kind in _KINDS), folder, *others):
        if kind.is_dir():
            paths = sorted(p for p in kind.glob("*.[tT][xX][tT]") if not is_litter(p.name))
            if lists := {p.stem: p for p in paths if not _CLASS_LIST.fullmatch(p.stem)}:
                return lists
            if paths:  # of classes only, each of which names every image of its split
                return {_CLASS_LIST.fullmatch(p.stem)[1]: p for p in reversed(paths)}
    return {}


def _list_path(tree: Path, lists: Mapping[str, Path], split: str) -> Path | None:
    """The list of a split; ``None`` where nobody divided the images, so that a seed must."""
    if split in lists:
        return lists[split]
    if _CLASS_LIST.fullmatch(split) and "/" not in split:
        path = _child(_child(tree, _LISTS), "Main") / f"{split}.txt"
        if path.is_file():
            return path
    words = {PARTS[name.casefold()] for name in lists if name.casefold() in PARTS}
    if split in ("train", "val") and not words:
        return None
    whole = next((path for name, path in lists.items() if name.casefold() == "trainval"), None)
    if split == "train" and words == {"test"} and whole:
        return whole
    if split in PARTS and (name := samples.part_named(split, lists)):
        return lists[name]
    folder = next(iter(lists.values())).parent if lists else _child(tree, _LISTS)
    raise VoclabError(
        f"{folder} has no list {split}.txt; choose from: {', '.join(sorted(lists)) or 'train, val'}."
    )


def read_list(path: Path, images: Collection[str]) -> tuple[str, ...]:
    """The names on a list, as the images are called.

    A line is a name, also with spaces, with its suffix or its path; -1, 0 or 1 may follow, as in Main's
    lists of a class, or the mask's path.
    """
    shorter: dict[str, str | None] = {}
    for image in images:
        base = image.rpartition("/")[2]
        shorter[base] = image if base not in shorter else None

    def known(text: str) -> str | None:
        text = samples.nfc(text).replace("\\", "/").lstrip("/")
        text = text.partition(f"{_IMAGES}/")[2] or text.removeprefix("./")
        bare, _, suffix = text.rpartition(".")
        for form in (text, bare if f".{suffix.lower()}" in (*IMAGE_SUFFIXES, ".xml") else ""):
            if form in images:
                return form
            if shorter.get(form.rpartition("/")[2]):
                return shorter[form.rpartition("/")[2]]
        return None

    ids: dict[str, None] = {}
    for line in labelmap.read_text(path).splitlines():
        words = line.split()
        if not words:
            continue
        if ".." in re.split(r"[/\\]", line.strip()):
            raise VoclabError(
                f"{path} has the entry {line.strip()!r}, which is no image name; correct the list."
            )
        flagged = len(words) > 1 and words[-1] in _FLAGS
        whole = line.strip()
        if whole.startswith("#") and not known(whole):
            continue
        if (quoted := re.fullmatch(r'"(.+)"(.*)', whole)) and known(
            quoted[1]
        ):  # Datumaro, of names with spaces
            whole, words = quoted[1], [quoted[1]]
        named = known(whole) or (flagged and known(whole[: -len(words[-1])].strip()))
        several = [named] if named else list(dict.fromkeys(known(word) for word in words))
        if None in several:  # it is missing, which others will say
            several = [samples.nfc(whole[: -len(words[-1])].strip() if flagged else whole)]
        for image in several:
            if image in ids:
                raise VoclabError(f"{path} lists {image} twice; remove the second entry.")
            ids[image] = None
    if not ids:
        raise VoclabError(f"{path} is empty; a split needs at least one image name, so restore the list.")
    return tuple(ids)


def _require(part: _Part, folder: Path, there: Collection[str], suffix: str) -> None:
    absent = [image for image in part.ids if image not in there]
    if absent:
        raise VoclabError(
            f"{part.path or part.where} names {absent[0]}, but {folder / (absent[0] + suffix)} is missing"
            f"{_more(absent)}; restore the file or take it off the list."
        )


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _truth_folder(tree: Path, split: str) -> Path:
    for root in (tree.parent, tree.parent.parent):
        if split == "test" and (root / TOY_MANIFEST).is_file():
            return root / "truth" / tree.name
    return tree


def count_objects(root: str | Path, split: str, year: int | str | None = None) -> tuple[int, ...] | None:
    """Objects in each image of a split, difficult ones included; ``None`` without Annotations."""
    part = _part(_find_trees(Path(root), year), split)
    xmls = samples.files(_child(part.truth, _ANNOTATIONS), (".xml",))
    return samples.count_objects([Sample(i, part.tree, None, xmls.get(i)) for i in part.ids])


def encode_mask(mask: np.ndarray) -> bytes:
    """A label map (H, W) uint8 as a PNG with VOC's palette, as the devkit stores masks."""
    image = Image.fromarray(mask)
    image.putpalette(_PALETTE)  # of grey values it makes indices
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
