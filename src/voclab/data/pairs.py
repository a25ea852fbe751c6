"""Reads images with masks or VOC annotations beside them: ``images`` and ``masks``, Roboflow, Supervisely.

The folders are known by their names and by what they hold: files of equal names in ``images`` and
``masks``, ``img`` and ``ann``, ``JPEGImages`` and ``SegmentationClassPNG`` ..., themselves or inside
``train``, ``val`` and ``test``; or ``a.jpg`` with ``a.xml`` or ``a_mask.png`` in one folder. What looks
like that and is not clear is refused, never taken for images by class.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voclab.data import annotations, labelmap, masks, samples, vocdevkit
from voclab.data.base import VOC_CLASSES, Dataset
from voclab.data.samples import IMAGE_SUFFIXES, PARTS, Sample
from voclab.errors import VoclabError

LEVELS = 2  # below the folder that is named
_IMAGES = {
    "images", "image", "img", "imgs", "jpegimages", "jpgimages", "pngimages", "photos", "photo", "pictures",
    "pics", "rgb", "input", "inputs", "original", "originals", "originalimages", "raw",
    "rawimages", "x", "data", "frames", "scans", "leftimg8bit",
}  # fmt: skip
_ONLY_IMAGES = {"images", "image", "imgs", "img", "jpegimages"}  # words that are no class of anybody's
_MASKS = {
    "masks", "mask", "seg", "segs", "segm", "segmentation", "segmentations", "segmentationmasks",
    "segmentationclass", "segmentationclasspng", "segmentationclassraw", "segmentationmask", "ann", "anns",
    "annot", "annots", "annotation", "annotations", "label", "labels", "labelids", "labelmaps", "gt", "gts",
    "groundtruth", "groundtruths", "target", "targets", "trimaps", "y", "gtfine", "masksmachine",
    "semanticmasks", "classmasks", "pngmasks", "labelmasks", "maskspng", "masksimages", "labelimages",
    "maskimages", "imagemasks", "xml", "xmls", "annotationsxml", "segmentationclassnpy", "maskshuman",
}  # fmt: skip
_MASK_ENDS = re.compile(
    r"[ _.-]+(mask|masks|seg|segm|segmentation|label|labels|labelids|gt|groundtruth|ground_truth|annotation|"
    r"annot|l|gtfine_labelids|labeltrainids|trimap|target|m)$",
    re.IGNORECASE,
)
_SIDES = re.compile(
    r"^(?:images?|imgs?|masks?|segs?|segm|segmentation|labels?|gt|annotations?|x|y)[ _.-]+"
    r"|[ _.-]+(?:image|img|sat|rgb|leftimg8bit|image)$",
    re.IGNORECASE,
)
_ARRAYS = (*IMAGE_SUFFIXES, ".npy")
_LISTS = ("", "ImageSets/Segmentation", "ImageSets/Main", "ImageSets", "splits", "lists")
_SAMPLE = 8  # files at most that an image with its mask has in a folder of its own
_OTHER_TRUTH = (".json", ".txt", ".csv", ".mat")


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
    for depth in range(LEVELS + 1):
        found = [layout for folder in level if (layout := _layout(folder)) is not None]
        if len(found) > 1:
            names = ", ".join(str(layout.base.relative_to(root)) for layout in found[:3])
            names += ", …" if len(found) > 3 else ""
            raise VoclabError(
                f"{root} holds several folders of images with masks ({names}); name one of them."
            )
        if found or depth == LEVELS:
            return found[0] if found else None
        level = [inside for folder in level for inside in samples.subfolders(folder)]
    return None


def recognise(root: Path) -> tuple[Path, str] | None:
    """``root`` and what it holds, in words; ``None`` without images with masks or annotations."""
    layout = find(root)
    if layout is None:
        return None
    first = next(sample for part in layout.parts.values() for sample in part)
    return root, f"images with {'masks' if first.mask else 'annotations'} of the same names"


def read(root: str | Path, split: str, layout: Layout | None = None) -> Dataset:
    """The images of a part, with masks where there are any.

    Labels are from the annotations where every image has one, else from the masks. Classes are those of a
    label map (:mod:`voclab.data.labelmap`), else those that the annotations name, else the numbers in the
    masks: ``"class 1"`` ... ``Dataset.source`` says which.

    Args:
        root: see :func:`find`.
        split: ``"train"``, ``"val"`` (``test`` where there is no ``val``) or ``"test"``. Where nothing
            divides the images, a seed does, in ``train`` and ``val``.
        layout: what :func:`find` found.

    Raises:
        VoclabError: no such data or part, masks whose numbers or colours have no meaning, annotations that
            are damaged, an image in both parts. Images are checked when they are decoded.
    """
    layout = layout or find(root)
    if layout is None:
        raise VoclabError(
            f"{root} holds no images with masks or annotations of the same names; name a folder with images/"
            " and masks/."
        )
    here, where = _split(layout, split)
    every = [sample for part in layout.parts.values() for sample in part]
    folders = [layout.base, *samples.subfolders(layout.base)]
    if layout.base != Path(root):
        folders += [p for p in layout.base.parents if p == Path(root) or Path(root) in p.parents]
    found = _label_map(folders)
    legend, names, labels, origin = _truth(every, here, found)
    left = f" ({'; '.join(layout.left)})" if layout.left else ""
    return samples.dataset(
        here,
        legend,
        names,
        labels,
        name="pairs",
        split=split,
        source=f"{len(here)} images of {where}{left}; {origin}",
    )


def _label_map(folders: Sequence[Path]) -> labelmap.LabelMap | None:
    """The label map of the first folder that has one; those of the parts must agree."""
    maps = [found for folder in folders if (found := labelmap.find([folder])) is not None]
    for other in maps[1:]:
        if other.path.name == maps[0].path.name and other.entries != maps[0].entries:
            raise VoclabError(f"{maps[0].path} and {other.path} name different classes; correct one of them.")
    return maps[0] if maps else None


def count_objects(root: str | Path, split: str) -> tuple[int, ...] | None:
    """Objects in each image of a part, difficult ones included; ``None`` without annotations."""
    layout = find(root)
    return None if layout is None else samples.count_objects(_split(layout, split)[0])


def _truth(every: Sequence[Sample], here: Sequence[Sample], found: labelmap.LabelMap | None):
    """Legend, classes and labels of a part, and a sentence for people, the classes being those of all."""
    masked, annotated = every[0].mask is not None, every[0].annotation is not None
    objects = samples.annotated(every) if annotated else []
    names = None if found is None else VOC_CLASSES if found.is_voc else found.class_names
    legend = None
    if masked:
        stored = samples.scan(every)
        legend = masks.generic_legend(stored) if found is None else masks.legend_of(found)
        if found is not None:
            legend = legend if found.is_voc else masks.fitted(legend, stored)
        names = legend.class_names
    elif names is None:
        names = annotations.class_names(objects)
    source = f"{found.path.name}" if found else ""
    if annotated:
        labels = annotations.labels(samples.annotated(here), names)
        origin = "labels from the annotations, without difficult objects"
        source = source or "the annotations"
    else:
        labels = samples.labels_from(samples.scan(here), legend)
        origin = "labels from the masks"
        source = source or f"{legend.origin}, for no label map names them"
    return legend, names, labels, f"{origin}; classes from {source}"


def _split(layout: Layout, split: str) -> tuple[list[Sample], str]:
    parts = layout.parts
    known = [name for name in parts if name]
    if set(map(str.casefold, known)) & {n for n, part in PARTS.items() if part != "train"}:
        name = samples.part_named(split, known)
        if name is None:
            raise VoclabError(f"{layout.base} has no part for {split!r}; choose from: {', '.join(known)}.")
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
    name = samples.part_named(split, lists)
    if name is None:
        raise VoclabError(f"There is no list {split}.txt; choose from: {', '.join(lists)}.")
    ids = vocdevkit.read_list(lists[name], by_id)
    for i in ids:
        if i not in by_id:
            raise VoclabError(
                f"{lists[name]} names {i}, which is no image with a mask or annotation; restore its files or"
                " take it off the list."
            )
    for other, path in lists.items():
        both = set(ids) & set(vocdevkit.read_list(path, by_id)) if other != name else ()
        if both:
            raise VoclabError(
                f"{lists[name]} and {path.name} both have {min(both)}; take it out of one, for an image that"
                " was trained on must not be measured on."
            )
    return [by_id[i] for i in ids], f"{lists[name].parent.resolve().name}/{lists[name].name}"


def _check_apart(layout: Layout, name: str) -> None:
    """Images that lie in two parts: the same name and the same bytes."""
    mine = {sample.id: sample.image for sample in layout.parts[name]}
    for other, part in layout.parts.items():
        for sample in part if other != name else ():
            image = mine.get(sample.id)
            if image and _same(image, sample.image):
                raise VoclabError(
                    f"{image} also lies in {other}; remove it from one, for an image that was trained on must"
                    " not be measured on."
                )


def _same(one: Path, two: Path) -> bool:
    return one.stat().st_size == two.stat().st_size and one.read_bytes() == two.read_bytes()


def _layout(base: Path) -> Layout | None:
    groups = _groups(base)
    parts, left = {}, []
    for name, group in groups.items():
        found = _match(base, group)
        if found:
            parts[name] = found
            left += [f"{name}: {words}" if name else words for words in group.left]
        elif group.images:
            left.append(f"{name} left out, for it has no masks or annotations")
    if not parts:
        return None
    kinds = {(s.mask is not None, s.annotation is not None) for part in parts.values() for s in part}
    if len(kinds) > 1:
        raise VoclabError(
            f"{base} has masks or annotations for some of its parts only; add them or remove the other parts."
        )
    return Layout(base, parts, tuple(left))


def _groups(base: Path) -> dict[str, _Group]:
    """Part -> its files; the part is ``""`` where the data is not divided."""
    found: dict[tuple[str, str], list[Path]] = {}
    for folder in samples.subfolders(base):
        part, role = _role(folder.name)
        if role or part:
            found.setdefault((part, role), []).append(folder)
    parts = list(dict.fromkeys(part for part, _ in found))
    groups: dict[str, _Group] = {}
    for part in parts:
        truth = found.get((part, "masks"), [])
        images = found.get((part, "images"), [])
        if truth and not images and part:
            images = found.get((part, ""), [])  # train and train_masks
        if {f.name.casefold() for f in (*images, *truth)} == {"x", "y"} and _are_letters(base):
            continue
        if truth and images:
            groups |= _of_folders(part, images, truth)
        elif part and not truth and not images:
            (inside, *more) = found[part, ""]
            if more:
                raise VoclabError(f"{inside} and {more[0]} both mean {PARTS[part.casefold()]}; remove one.")
            below = {}
            for folder in samples.subfolders(inside):
                if not _role(folder.name)[0] and _role(folder.name)[1]:
                    below.setdefault(_role(folder.name)[1], []).append(folder)
            if below.keys() >= {"images", "masks"}:
                groups |= {part: _of_folders("", below["images"], below["masks"]).get("", _Group())}
            elif "images" in below:
                groups[part] = _Group(samples.files(below["images"][0], _ARRAYS))
            elif not samples.subfolders(inside):
                groups[part] = _of_one_folder(inside)
    return groups or {"": _of_one_folder(base)}


def _role(name: str) -> tuple[str, str]:
    """(the word for a part or "", ``"images"``, ``"masks"`` or "") that a folder's name means."""
    plain = name.casefold()
    words = [word for word in re.split(r"[\W_]+", plain) if word]
    part = next((word for word in words if word in PARTS), "")
    rest = "".join(word for word in words if word != part)
    if not part:
        glued = re.fullmatch(r"(train|val|test)(annot|masks?|labels?|images?)", rest)  # SegNet's CamVid
        part, rest = glued.groups() if glued else ("", rest)
    role = "images" if rest in _IMAGES else "masks" if rest in _MASKS else ""
    return (part, role) if role or not rest else ("", "")


def _are_letters(base: Path) -> bool:
    """Whether folders X and Y are two of the classes A to Z, and so no images and masks."""
    others = [f for f in samples.subfolders(base) if _role(f.name) == ("", "")]
    return any(samples.files(f, _ARRAYS, twins=True) for f in others)


def _of_folders(part: str, images: list[Path], truth: list[Path]) -> dict[str, _Group]:
    """Groups of a folder of images and one of masks or annotations, which may be divided inside."""
    images = [inside for folder in images for inside in _inside(folder, "images")]
    truth = [inside for folder in truth for inside in _inside(folder, "masks")]
    if len(images) > 1:
        raise VoclabError(f"{images[0]} and {images[1].name} could both hold the images; remove one.")
    names = {re.sub(r"[\W_]+", "", folder.name.casefold()): folder for folder in truth}
    if "masksmachine" in names:  # Supervisely's numbers, and the same in colours for people
        truth = [folder for folder in truth if folder != names.get("maskshuman")]
    divided = {f.name: f for f in samples.subfolders(images[0]) if f.name.casefold() in PARTS}
    if divided and not part:
        below = {f.name: [t / f.name for t in truth if (t / f.name).is_dir()] for f in divided.values()}
        return {name: _files(folder, below[name]) for name, folder in divided.items() if below[name]}
    return {part: _files(images[0], truth)}


def _inside(folder: Path, role: str) -> list[Path]:
    """Its sub-folders of the same kind, where it holds nothing else: images/images, annotations/trimaps."""
    inside = [f for f in samples.subfolders(folder) if _role(f.name) == ("", role)]
    if not inside or samples.files(folder, (*_ARRAYS, ".xml"), deep=False, twins=True):
        return [folder]
    return [deeper for f in inside for deeper in _inside(f, role)]


def _files(images: Path, truth: list[Path]) -> _Group:
    group = _Group(samples.files(images, _ARRAYS))
    used = []
    for folder in truth:
        drawn, xmls = samples.files(folder, masks.SUFFIXES), samples.files(folder, (".xml",))
        if drawn and group.masks:
            raise VoclabError(f"{used[-1]} and {folder.name} could both hold the masks; remove one.")
        if drawn:
            group.masks = drawn
            used.append(folder)
        if xmls:
            group.xmls = xmls
    if group.images and not (group.masks or group.xmls):
        other = next(
            (p for f in truth for p in sorted(f.rglob("*")) if p.suffix.lower() in _OTHER_TRUTH), None
        )
        if other is not None:
            raise VoclabError(
                f"{other} is neither a mask nor a VOC annotation; export the data set with masks as PNG, or"
                " in the form of Pascal VOC."
            )
    return group


def _of_one_folder(folder: Path) -> _Group:
    """Images with ``a_mask.png`` or ``a.xml`` beside them."""
    names = [os.path.splitext(name) for name in os.listdir(folder)]
    if not any(suffix.lower() == ".xml" or _MASK_ENDS.search(stem) for stem, suffix in names):
        return _Group()
    every = samples.files(folder, _ARRAYS, deep=False, twins=True)
    ends = {name: _MASK_ENDS.sub("", name) for name in every}
    there = {_SIDES.sub("", name) for name in every if ends[name] == name} | every.keys()
    found = {name: path for name, path in every.items() if ends[name] != name and ends[name] in there}
    xmls = samples.files(folder, (".xml",), deep=False)
    images = {name: path for name, path in every.items() if name not in found}
    if not (found or xmls.keys() & images.keys()):
        return _Group()
    samples.files(folder, _ARRAYS, deep=False)  # refuses two of a name
    return _Group(images, found, xmls)


def _match(base: Path, group: _Group) -> tuple[Sample, ...]:
    """The images that have what the others have; what is left is written down in the group."""
    if not group.images or not (group.masks or group.xmls):
        return ()
    found = {}
    for kind, there in (("mask", group.masks), ("annotation", group.xmls)):
        if there:
            pairs = _pairs(base, kind, group.images, there)
            if pairs:
                found[kind] = pairs
    if not found:
        one = next(iter((group.masks or group.xmls).values()))
        raise VoclabError(
            f"{one} has the name of no image in {next(iter(group.images.values())).parent}; give a mask or"
            " annotation the name of its image."
        )
    if len(found.get("annotation", ())) < len(found.get("mask", ())):
        # Labels are the masks' then: annotations of some of the images are no truth of the rest.
        spare = found.pop("annotation", None)
        group.left += [f"annotations of only {len(spare)} images left out"] if spare else []
        group.xmls = {}
    chosen = [name for name in sorted(group.images) if all(name in pairs for pairs in found.values())]
    left = len(group.images) - len(chosen)
    if left:
        group.left.append(f"{left} without {' or '.join(found)} left out")
    for kind, pairs in found.items():
        spare = len(group.masks if kind == "mask" else group.xmls) - len(pairs)
        if spare:
            group.left.append(f"{spare} {kind}s without an image left out")
    return tuple(
        Sample(i, group.images[i], *(found.get(kind, {}).get(i) for kind in ("mask", "annotation")))
        for i in chosen
    )


def _pairs(base: Path, kind: str, images: Mapping[str, Path], truth: Mapping[str, Path]) -> dict[str, Path]:
    """Image's name -> its mask: equal names, else names that differ by what says image and mask."""
    by_name = {name: truth[name] for name in images if name in truth}
    if len(by_name) == len(images):
        return by_name
    full = {f"{name}{path.suffix}": name for name, path in images.items()}  # a.jpg.png
    whole = {full[name]: path for name, path in truth.items() if name in full}
    keys: dict[str, str] = {}
    for name in images:
        keys[_SIDES.sub("", name)] = name if _SIDES.sub("", name) not in keys else ""
    plain: dict[str, Path] = {}
    for name, path in truth.items():
        image = keys.get(_SIDES.sub("", _MASK_ENDS.sub("", name)))
        if image and plain.setdefault(image, path) != path:
            if len(by_name) or len(whole):
                continue
            raise VoclabError(
                f"{plain[image]} and {path.name} could both be the {kind} of {images[image].name}; remove"
                " one."
            )
    return max(by_name, whole, plain, key=len)


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
        inside = samples.subfolders(base)
        for folder in inside:
            names = sorted(os.listdir(folder))
            stems = {_role(stem): name for name in names if len(stem := os.path.splitext(name)[0]) > 1}
            image, mask = stems.get(("", "images")), stems.get(("", "masks"))
            if image and mask and len(names) <= _SAMPLE and (folder / image).is_file():
                raise VoclabError(
                    f"{folder} holds an image and its mask, {image} and {mask}, so {root}"
                    " is not images by class; put all images in one folder, all masks in another, each pair"
                    " under one name (labelme2voc.py does so with labelme's files)."
                )
            group = _of_one_folder(folder)
            if len(group.masks) * 2 >= len(group.images) > 0 and group.masks:
                raise VoclabError(
                    f"{next(iter(group.masks.values()))} looks like the mask of an image beside it, so {root}"
                    " is not images by class; put images and masks in folders of these names."
                )
        if len(inside) > 4:  # the classes and a folder or two of something else
            continue
        folders = {
            f: samples.files(f, _ARRAYS, twins=True) for f in inside if not _role(f.name)[0]
        }  # no train, test
        folders = {f: _by_plain_name(found) for f, found in folders.items() if found}
        if len(folders) != 2:
            continue
        (one, mine), (two, theirs) = folders.items()
        both = sorted(mine.keys() & theirs.keys())
        if len(both) * 2 > min(len(mine), len(theirs)):
            looks = [_looks_like_masks([found[name] for name in both[:3]]) for found in (mine, theirs)]
            if looks[0] == looks[1] and {one.name.casefold(), two.name.casefold()} & _ONLY_IMAGES:
                raise VoclabError(
                    f"{one} and {two.name} hold files of the same names, so they are not images by class;"
                    " call the folders images and masks if they are, or give the files of each class names of"
                    " their own."
                )
            if looks[0] != looks[1]:
                first, second = (two, one) if looks[0] else (one, two)
                raise VoclabError(
                    f"{second} looks like masks of the images in {first}; call the folders images and masks."
                )


def _by_plain_name(found: Mapping[str, Path]) -> dict[str, Path]:
    """Files by what is left of their names without words for image and mask."""
    return {_SIDES.sub("", _MASK_ENDS.sub("", name)): path for name, path in found.items()}


def _looks_like_masks(paths: Sequence[Path]) -> bool:
    try:
        return all(len(masks.read(path).used) <= 32 for path in paths)
    except VoclabError:
        return False
