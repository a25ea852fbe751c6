"""Reads images with masks or VOC annotations beside them: ``images`` and ``masks``, Roboflow, Supervisely.

The folders are known by their names and by what they hold: files of equal names in ``images`` and
``masks``, ``img`` and ``ann``, ``JPEGImages`` and ``SegmentationClassPNG`` ..., themselves or inside
``train``, ``val`` and ``test``; or ``a.jpg`` with ``a.xml`` or ``a_mask.png`` in one folder. What looks
like that and is not clear is refused, never taken for images by class.
"""

import filecmp
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voclab.data import labelmap, masks, samples
from voclab.data.base import Dataset, refusal
from voclab.data.decoding import SUFFIXES
from voclab.data.listing import PARTS, files, part_named, subfolders
from voclab.data.lists import TRAINED_ON, read_list, require_apart
from voclab.data.samples import Sample
from voclab.errors import VoclabError

LEVELS = 2  # below the folder that is named
_IMAGES = {
    "images", "image", "img", "imgs", "jpegimages", "jpgimages", "pngimages", "photos", "photo", "pictures",
    "pics", "rgb", "input", "inputs", "original", "originals", "originalimages", "raw",
    "rawimages", "data", "frames", "scans", "leftimg8bit",
}  # fmt: skip
_ONLY_IMAGES = {"images", "image", "imgs", "img", "jpegimages"}  # words that are no class of anybody's
_MASKS = {
    "masks", "mask", "seg", "segs", "segm", "segmentation", "segmentations", "segmentationmasks",
    "segmentationclass", "segmentationclasspng", "segmentationclassraw", "segmentationmask", "ann", "anns",
    "annot", "annots", "annotation", "annotations", "label", "labels", "labelids", "labelmaps", "gt", "gts",
    "groundtruth", "groundtruths", "target", "targets", "trimaps", "gtfine", "masksmachine",
    "semanticmasks", "classmasks", "pngmasks", "labelmasks", "maskspng", "masksimages", "labelimages",
    "maskimages", "imagemasks", "xml", "xmls", "annotationsxml", "segmentationclassnpy", "maskshuman",
    "1stmanual",
}  # fmt: skip
_MASK_ENDS = re.compile(
    r"[ _.-]+(mask|masks|seg|segm|segmentation|label|labels|labelids|gt|groundtruth|ground_truth|annotation|"
    r"annot|l|manual1|gtfine_labelids|labeltrainids|trimap|target|m)$",
    re.IGNORECASE,
)
_SIDES = re.compile(
    r"^(?:images?|imgs?|masks?|segs?|segm|segmentation|labels?|gt|annotations?|x|y)[ _.-]+"
    r"|[ _.-]+(?:image|img|sat|rgb|leftimg8bit|image)$",
    re.IGNORECASE,
)
# DRIVE's 21_training, 21_manual1
_PART_ENDS = re.compile(rf"[ _.-]+({'|'.join(sorted(PARTS))})$", re.IGNORECASE)
_ARRAYS = (*SUFFIXES, ".npy")
_LISTS = ("", "ImageSets/Segmentation", "ImageSets/Main", "ImageSets", "splits", "lists")
_SAMPLE = 8  # files at most that an image with its mask has in a folder of its own


@dataclass
class _Group:
    """The folders or files of a part of the data set."""

    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    xmls: dict[str, Path] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)  # what was not used, in words


@dataclass(frozen=True)
class Layout:
    """What a folder holds: where, the samples of each part by the part's name, and what was left out."""

    base: Path
    parts: dict[str, tuple[Sample, ...]]
    left: tuple[str, ...]


def find(root: str | Path) -> Layout | None:
    """The images with masks or annotations in ``root``, itself or up to two levels below.

    Returns:
        ``None`` where there are none.

    Raises:
        VoclabError: several such folders, or files that do not belong together.
    """
    level = [Path(root)]
    for _ in range(LEVELS + 1):
        found = [layout for folder in level if (layout := _layout(folder)) is not None]
        if len(found) > 1:
            names = ", ".join(str(layout.base.relative_to(root)) for layout in found[:3])
            names += ", …" if len(found) > 3 else ""
            raise refusal(root, f"holds several folders of images with masks ({names})", "name one of them")
        if found:
            return found[0]
        level = [inside for folder in level for inside in subfolders(folder)]
    return None


def recognise(root: Path) -> tuple[Path, str] | None:
    """``root`` and what it holds, in words; ``None`` without images with masks or annotations."""
    layout = find(root)
    if layout is None:
        return None
    first = next(sample for part in layout.parts.values() for sample in part)
    return root, f"images with {'masks' if first.mask else 'annotations'} of the same names"


def read(root: str | Path, split: str) -> Dataset:
    """The images of a part, with masks where there are any.

    Labels are from the annotations where every image has one, else from the masks. Classes are those of a
    label map (:mod:`voclab.data.labelmap`), else those that the annotations name, else the numbers in the
    masks: ``"class 1"`` ... ``Dataset.source`` says which.

    Args:
        root: see :func:`find`.
        split: ``"train"``, ``"val"`` (``test`` where there is no ``val``) or ``"test"``. Where nothing
            divides the images, a seed does, in ``train`` and ``val``.

    Raises:
        VoclabError: no such data or part, masks whose numbers or colours have no meaning, annotations that
            are damaged, an image in both parts. Images are checked when they are decoded.
    """
    layout = find(root)
    if layout is None:
        what = "holds no images with masks or annotations of the same names"
        raise refusal(root, what, "name a folder with images/ and masks/")
    here, where = _split(layout, split)
    mine = {sample.image for sample in here}
    others = [sample for part in layout.parts.values() for sample in part if sample.image not in mine]
    folders = [layout.base, *subfolders(layout.base)]
    folders += [p for p in layout.base.parents if p == Path(root) or Path(root) in p.parents]
    left = f" ({'; '.join(layout.left)})" if layout.left else ""
    source = f"{len(here)} images of {where}{left}"
    return samples.labelled(
        here, others, _label_map(folders), voc=False, name="pairs", split=split, source=source
    )


def _label_map(folders: Sequence[Path]) -> labelmap.LabelMap | None:
    """The label map of the first folder that has one; those of the parts must agree."""
    maps = [found for folder in folders if (found := labelmap.find([folder])) is not None]
    for other in maps[1:]:
        if other.path.name == maps[0].path.name and other.entries != maps[0].entries:
            raise refusal(maps[0].path, f"and {other.path} name different classes", "correct one of them")
    return maps[0] if maps else None


def count_objects(root: str | Path, split: str) -> tuple[int, ...] | None:
    """Objects in each image of a part, difficult ones included; ``None`` without annotations."""
    layout = find(root)
    return None if layout is None else samples.count_objects(_split(layout, split)[0])


def _split(layout: Layout, split: str) -> tuple[list[Sample], str]:
    parts = layout.parts
    known = [name for name in parts if name]
    if {PARTS[name.casefold()] for name in known} - {"train"}:
        name = part_named(split, known)
        if name is None:
            raise refusal(layout.base, f"has no part for {split!r}", f"choose from: {', '.join(known)}")
        _check_apart(layout, name)
        return list(parts[name]), f"{layout.base.resolve().name}/{name}"
    (only,) = parts.values()
    by_id = {sample.id: sample for sample in only}
    lists = _lists(layout.base)
    if lists:
        return _listed(lists, by_id, split)
    chosen = samples.split_by_seed(sorted(by_id), split)
    name = "/".join(filter(None, (layout.base.resolve().name, *known)))
    return [by_id[i] for i in chosen], f"{name}, where {samples.SPLIT_BY_SEED}"


def _lists(base: Path) -> dict[str, Path]:
    """The lists that divide the images: ``train.txt`` or ``trainval.txt`` with others; or nothing."""
    for place in _LISTS:
        paths = {p.stem: p for p in sorted((base / place).glob("*.txt"))}
        found = {name: p for name, p in paths.items() if name.casefold() in PARTS}
        if "trainval" in paths and "test" in map(PARTS.get, map(str.casefold, found)):
            found = {"train": paths["trainval"]} | found
        if {PARTS[name.casefold()] for name in found} >= {"train"} and len(found) > 1:
            return found
    return {}


def _listed(lists: Mapping[str, Path], by_id: Mapping[str, Sample], split: str) -> tuple[list[Sample], str]:
    name = part_named(split, lists)
    if name is None:
        raise VoclabError(f"There is no list {split}.txt; choose from: {', '.join(lists)}.")
    ids = read_list(lists[name], by_id)
    for i in ids:
        if i not in by_id:
            what = f"names {i}, which is no image with a mask or annotation"
            raise refusal(lists[name], what, "restore its files or take it off the list")
    for other, path in lists.items():
        if other != name:
            require_apart(lists[name], path.name, ids, read_list(path, by_id))
    return [by_id[i] for i in ids], f"{lists[name].parent.resolve().name}/{lists[name].name}"


def _check_apart(layout: Layout, name: str) -> None:
    """Images that lie in two parts: the same name and the same bytes."""
    mine = {sample.id: sample.image for sample in layout.parts[name]}
    for other, part in layout.parts.items():
        for sample in part if other != name else ():
            image = mine.get(sample.id)
            if image and filecmp.cmp(image, sample.image, shallow=False):
                raise refusal(image, f"also lies in {other}", f"remove it from one, {TRAINED_ON}")


def _layout(base: Path) -> Layout | None:
    parts, left = {}, []
    for name, group in _groups(base).items():
        found = _match(group)
        if found:
            parts[name] = found
            left += [f"{name}: {words}" if name else words for words in group.left]
        elif group.images:
            left.append(f"{name} left out, for it has no masks or annotations")
    kinds = {(s.mask is not None, s.annotation is not None) for part in parts.values() for s in part}
    if len(kinds) > 1:
        what = "has masks or annotations for some of its parts only"
        raise refusal(base, what, "add them or remove the other parts")
    return Layout(base, parts, tuple(left)) if parts else None


def _groups(base: Path) -> dict[str, _Group]:
    """Part -> its files; the part is ``""`` where the data is not divided."""
    found: dict[str, dict[str, list[Path]]] = {}  # part -> role -> folders
    for folder in subfolders(base):
        for part, role, path in _roles(folder):
            found.setdefault(part, {}).setdefault(role, []).append(path)
    truth = [folder for roles in found.values() for folder in roles.get("masks", ())]
    if any(_plain(folder.name) == "1stmanual" for folder in truth):  # DRIVE: mask is the field of view
        for roles in found.values():
            roles["masks"] = [f for f in roles.get("masks", ()) if _plain(f.name) == "1stmanual"]
    groups: dict[str, _Group] = {}
    for part, roles in found.items():
        truth, alone = roles.get("masks", []), roles.get("", [])
        images = roles.get("images") or (alone if truth else [])  # train and train_masks
        if images and (truth or part):
            groups[part] = _of_folders(images, truth)
        elif len(alone) > 1:
            raise refusal(alone[0], f"and {alone[1]} both mean {PARTS[part]}", "remove one")
        elif alone and not subfolders(alone[0]):
            groups[part] = _of_one_folder(alone[0])
    return groups or {"": _of_one_folder(base)}


def _roles(folder: Path) -> list[tuple[str, str, Path]]:
    """(part, role, folder) that the names of a folder and of those in it mean; see :func:`_role`."""
    part, role = _role(folder.name)
    if part and not role:
        below = [
            (part, inner[1], f) for f in subfolders(folder) if (inner := _role(f.name))[1] and not inner[0]
        ]
        return below or [(part, "", folder)]
    if not role:
        return []
    inside = _inside(folder, role)
    divided = [
        (f.name.casefold(), role, f) for i in inside for f in subfolders(i) if f.name.casefold() in PARTS
    ]
    return divided if divided and not part else [(part, role, i) for i in inside]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _role(name: str) -> tuple[str, str]:
    """(the word for a part or "", ``"images"``, ``"masks"`` or "") that a folder's name means."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
    part = next((word for word in words if word in PARTS), "")
    rest = "".join(word for word in words if word != part)
    if not part:
        glued = re.fullmatch(r"(train|val|test)(annot|masks?|labels?|images?)", rest)  # SegNet's CamVid
        part, rest = glued.groups() if glued else ("", rest)
    role = "images" if rest in _IMAGES else "masks" if rest in _MASKS else ""
    return (part, role) if role or not rest else ("", "")


def names_pairs(names: Iterable[str]) -> tuple[str, str] | None:
    """Of folders' names the first that means images and the first that means masks, if there are both."""
    roles = {_role(name)[1]: name for name in sorted(names, reverse=True)}
    return (roles["images"], roles["masks"]) if roles.keys() >= {"images", "masks"} else None


def _inside(folder: Path, role: str) -> list[Path]:
    """Its sub-folders of the same kind, where it holds nothing else: images/images, annotations/trimaps."""
    inside = [f for f in subfolders(folder) if _role(f.name) == ("", role)]
    if not inside or files(folder, (*_ARRAYS, ".xml"), deep=False, twins=True):
        return [folder]
    return [deeper for f in inside for deeper in _inside(f, role)]


def _of_folders(images: list[Path], truth: list[Path]) -> _Group:
    """A folder of images and those of masks and annotations."""
    if len(images) > 1:
        raise refusal(images[0], f"and {images[1].name} could both hold the images", "remove one")
    # Supervisely writes the masks in numbers, and in colours for people.
    if any(_plain(folder.name) == "masksmachine" for folder in truth):
        truth = [folder for folder in truth if _plain(folder.name) != "maskshuman"]
    group = _Group(files(images[0], _ARRAYS))
    used = []
    for folder in truth:
        if drawn := files(folder, masks.SUFFIXES):
            group.masks = drawn
            used.append(folder)
        group.xmls = files(folder, (".xml",)) or group.xmls
    if len(used) > 1:
        raise refusal(used[0], f"and {used[1].name} could both hold the masks", "remove one")
    return group


def _of_one_folder(folder: Path) -> _Group:
    """Images with ``a_mask.png`` or ``a.xml`` beside them."""
    names = [os.path.splitext(name) for name in os.listdir(folder)]
    if not any(suffix.lower() == ".xml" or _MASK_ENDS.search(stem) for stem, suffix in names):
        return _Group()
    every = files(folder, _ARRAYS, deep=False, twins=True)
    ends = {name: _MASK_ENDS.sub("", name) for name in every}
    there = {_SIDES.sub("", name) for name in every if ends[name] == name} | every.keys()
    found = {name: path for name, path in every.items() if ends[name] != name and ends[name] in there}
    xmls = files(folder, (".xml",), deep=False)
    images = {name: path for name, path in every.items() if name not in found}
    if not (found or xmls.keys() & images.keys()):
        return _Group()
    files(folder, _ARRAYS, deep=False)  # refuses two of a name
    return _Group(images, found, xmls)


def _match(group: _Group) -> tuple[Sample, ...]:
    """The images that have what the others have; what is left is written down in the group."""
    given = {kind: there for kind, there in (("mask", group.masks), ("annotation", group.xmls)) if there}
    if not group.images or not given:
        return ()
    found = {kind: pairs for kind, there in given.items() if (pairs := _pairs(kind, group.images, there))}
    if not found:
        one = next(iter((group.masks or group.xmls).values()))
        what = f"has the name of no image in {next(iter(group.images.values())).parent}"
        raise refusal(one, what, "give a mask or annotation the name of its image")
    if len(found.get("annotation", ())) < len(found.get("mask", ())):
        # Labels are the masks' then: annotations of some of the images are no truth of the rest.
        spare = found.pop("annotation", None)
        group.left += [f"annotations of only {len(spare)} images left out"] if spare else []
    chosen = [name for name in sorted(group.images) if all(name in pairs for pairs in found.values())]
    if left := len(group.images) - len(chosen):
        group.left.append(f"{left} without {' or '.join(found)} left out")
    for kind, pairs in found.items():
        if spare := len(given[kind]) - len(pairs):
            group.left.append(f"{spare} {kind}s without an image left out")
    return tuple(
        Sample(i, group.images[i], *(found.get(kind, {}).get(i) for kind in ("mask", "annotation")))
        for i in chosen
    )


def _pairs(kind: str, images: Mapping[str, Path], truth: Mapping[str, Path]) -> dict[str, Path]:
    """Image's name -> its mask: equal names, else names that differ by what says image and mask."""
    by_name = {name: truth[name] for name in images if name in truth}
    if len(by_name) == len(images):
        return by_name
    full = {f"{name}{path.suffix}": name for name, path in images.items()}  # a.jpg.png
    whole = {full[name]: path for name, path in truth.items() if name in full}
    for bare in (_bare, lambda name: _PART_ENDS.sub("", _bare(name))):
        keys: dict[str, str] = {}
        for name in images:
            keys[bare(name)] = name if bare(name) not in keys else ""
        plain: dict[str, Path] = {}
        for name, path in truth.items():
            image = keys.get(bare(_MASK_ENDS.sub("", name)))
            if image and plain.setdefault(image, path) != path and not by_name and not whole:
                what = f"and {path.name} could both be the {kind} of {images[image].name}"
                raise refusal(plain[image], what, "remove one")
        if found := max(by_name, whole, plain, key=len):
            return found
    return {}


def _bare(name: str) -> str:
    """A name without the word for image at its end or for image or mask at its beginning."""
    return _SIDES.sub("", name)


def require_images(root: str | Path, bases: Iterable[Path]) -> None:
    """Refuse a folder that would be read as images by class, but holds images and masks.

    Args:
        root: the folder that is named, for sentences.
        bases: those whose sub-folders would be classes.

    Raises:
        VoclabError: two folders with files of the same names where one holds masks, or a class folder with
            masks beside its images.
    """
    for base in bases:
        inside = subfolders(base)
        for folder in inside:
            _refuse_masks_beside(folder, root)
        if len(inside) <= 4:  # not the classes and a folder or two of something else
            _refuse_same_names([folder for folder in inside if not _role(folder.name)[0]])


def _refuse_masks_beside(folder: Path, root: str | Path) -> None:
    no_classes = f"so {root} is not images by class"
    names = sorted(os.listdir(folder))
    stems = {_role(os.path.splitext(name)[0]): name for name in names}
    image, mask = stems.get(("", "images")), stems.get(("", "masks"))
    if image and mask and len(names) <= _SAMPLE and (folder / image).is_file():
        raise refusal(
            folder,
            f"holds an image and its mask, {image} and {mask}, {no_classes}",
            "put all images in one folder, all masks in another, each pair under one name"
            " (labelme2voc.py does so with labelme's files)",
        )
    group = _of_one_folder(folder)
    if group.masks and len(group.masks) * 2 >= len(group.images) > 0:
        what = f"looks like the mask of an image beside it, {no_classes}"
        remedy = "put images and masks in folders of these names"
        raise refusal(next(iter(group.masks.values())), what, remedy)


def _refuse_same_names(folders: Sequence[Path]) -> None:
    """Refuse two folders that hold files of the same names, as images and their masks do."""
    held = {}
    for folder in folders:
        if found := files(folder, _ARRAYS, twins=True):
            held[folder] = {_bare(_MASK_ENDS.sub("", name)): path for name, path in found.items()}
    if len(held) != 2:
        return
    (one, mine), (two, theirs) = held.items()
    both = sorted(mine.keys() & theirs.keys())
    if len(both) * 2 <= min(len(mine), len(theirs)):
        return
    one_drawn, two_drawn = (_looks_like_masks([found[name] for name in both[:3]]) for found in (mine, theirs))
    if one_drawn != two_drawn:
        first, second = (two, one) if one_drawn else (one, two)
        what = f"looks like masks of the images in {first}"
        raise refusal(second, what, "call the folders images and masks")
    if {one.name.casefold(), two.name.casefold()} & _ONLY_IMAGES:
        what = f"and {two.name} hold files of the same names, so they are not images by class"
        remedy = "call the folders images and masks if they are, or give the files of each class names of"
        raise refusal(one, what, f"{remedy} their own")


def _looks_like_masks(paths: Sequence[Path]) -> bool:
    try:
        return all(len(masks.read(path).used) <= 32 for path in paths)
    except VoclabError:
        return False
