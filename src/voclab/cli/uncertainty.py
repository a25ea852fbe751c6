"""``voclab uncertainty``: how far the probabilities of trained networks can be trusted."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from voclab import options
from voclab.cli import base
from voclab.errors import VoclabError
from voclab.terminal import say, start_keras, tell


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "uncertainty", uncertainty)
    text = "runs' folders, .keras files, or those that come with voclab: ready, ready-segmenter"
    base.option(parser, "--model", required=True, nargs="+", metavar="PATH", help=text)
    base.dataset(parser)
    base.split(parser)
    text = "side of the images in pixels (default: the run's)"
    base.option(parser, "--size", options.side, help=text)
    text = "take that many of the test images, spread over the split"
    base.option(parser, "--images", options.count, help=text)
    text = (
        "share of the test images used for calibration (default: none for a run of voclab train, which has"
        " validation images; else 0.5)"
    )
    base.option(parser, "--calibration-share", partial(options.number, low=0.01, high=0.99), help=text)
    text = "data of an unknown kind, by name or folder; noise is always measured"
    base.option(parser, "--unknown", nargs="+", default=[], metavar="DATA", help=text)
    text = "classes to treat as unknown (without names: two that calibration images mostly show alone)"
    base.option(parser, "--leave-out", nargs="*", metavar="CLASS", help=text)
    base.seed(parser)
    base.folder(
        parser,
        "--to",
        "where page and figures go, over those of an earlier call (default: runs/uncertainty/DATA)",
    )
    base.json(parser, "the names of the files")


def uncertainty(arguments) -> None:
    """Write a page on calibration, promised recall and unknown images."""
    from voclab.data import find, load, test_split
    from voclab.models import ready
    from voclab.models.saved import model_files

    if set(arguments.model) == {ready.SEGMENTER} and (arguments.unknown or arguments.leave_out is not None):
        raise VoclabError(
            f"Unknown images are told by a classifier; name {ready.CLASSIFIER} beside {ready.SEGMENTER}."
        )
    files = model_files(arguments.model)
    found = find(arguments.data)
    dataset = load(found.name, found.root, arguments.split or test_split(found.name))
    dataset.require_truth()
    for name in arguments.leave_out or ():  # refused before Keras is imported
        options.one_of("class", name, dataset.class_names)
    dataset = dataset.spread(arguments.images or 0)
    others = _unknown_data(arguments.unknown, found)

    start_keras()
    from voclab.evaluation import open_networks, uncertainty, unknown
    from voclab.reporting.page import data_title
    from voclab.reporting.uncertainty import as_dict, uncertainty_report

    networks = open_networks(arguments.model, dataset, arguments.size, progress=tell)
    classifiers = [network for network in networks if network.task != "segmentation"]
    if not classifiers and (others or arguments.leave_out is not None):
        raise VoclabError("Unknown images are told by a classifier; name one beside the segmenter.")
    far, measured = {}, {}
    for other, images in others.items():
        title = other.root.name if other.name in ("folder", "pairs") else data_title(other.name)
        # Not the whole path: pages are passed on.
        far["/".join(other.root.resolve().parts[-2:]) if title in far else title] = images
    for network, file in zip(networks, files.values(), strict=True):
        progress = partial(_tell_of, network.name)
        calibration, test, told = uncertainty.calibration_images(
            file,
            dataset,
            lambda: load(found.name, found.root, "train"),
            arguments.calibration_share,
            arguments.seed,
        )
        given = {"seed": arguments.seed, "progress": progress}
        sets = {}
        if network in classifiers:
            left_out = list(dict.fromkeys(arguments.leave_out or ()))
            if arguments.leave_out == []:
                left_out = unknown.lone_classes(calibration.labels, calibration.class_names)
            sets = unknown.measure(network, calibration, test, far, left_out, **given)
        trust = uncertainty.measure(network, calibration, test, **given)
        measured[network.name] = replace(trust, facts={**trust.facts, "calibrated on": told}), sets
    to = arguments.to or Path("runs/uncertainty") / (
        found.root.resolve().name if found.name in ("folder", "pairs") else found.name
    )
    paths = uncertainty_report(measured, dataset, to)
    if arguments.json:
        say(json.dumps(as_dict(measured), indent=1))
        return
    for path in paths:
        say(path)


def _unknown_data(names, known) -> dict:
    """Where data of an unknown kind was found -> its test images."""
    from voclab.data import find, load, test_split

    others, roots = {}, [known.root.resolve()]
    for text in names:
        other = find(text)
        if other.root.resolve() in roots:
            raise VoclabError(f"{text} is the data that is known, or named twice; name other data once.")
        roots.append(other.root.resolve())
        others[other] = load(other.name, other.root, test_split(other.name))
    return others


def _tell_of(name: str, line: str) -> None:
    tell(f"{name}: {line}")
