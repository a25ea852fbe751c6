"""``voclab data``: make, fetch, describe and convert data sets."""

import json
from functools import partial

from voclab import options
from voclab.cli import base
from voclab.errors import VoclabError
from voclab.terminal import say


def add(group) -> None:
    """Add the commands to the parser."""
    group = base.subcommands(group, "data", "make, fetch, describe and convert data sets")
    parser = base.command(group, "make", make)
    base.folder(parser, "--root", "where to (default: data/toyvoc)", default="data/toyvoc")
    base.seed(parser)
    for split in ("train", "val", "test"):
        base.option(parser, f"--{split}", partial(options.whole, high=100_000), help=f"images in {split}")
    base.option(parser, "--size", _drawn_side, help="longest side in pixels")

    parser = base.command(group, "fetch", fetch)
    parser.add_argument("source", choices=["voc2009", "cifar10", "kaggle"])
    base.folder(parser, "--root", "where to (default: data)", default="data")
    base.option(parser, "--competition", metavar="SLUG", help="with kaggle: the competition's slug")
    mirror = "with voc2009 or cifar10: a mirror, tried after the official addresses; may be repeated"
    base.option(parser, "--url", action="append", metavar="ADDRESS", help=mirror)

    parser = base.command(group, "info", info)
    base.dataset(parser)
    base.option(parser, "--split", default="train", help="a list of the data set (default: train)")
    base.json(parser, "a table")

    parser = base.command(group, "export", export)
    base.dataset(parser)
    base.folder(parser, "--to", "where to", required=True)
    base.option(parser, "--test-split", help="the list that becomes the test set (default: its test set)")
    base.folder(parser, "--truth", "where the test set's truth goes, if it is wanted")


def _drawn_side(name: str, value: str) -> int:
    from toyvoc.base import MIN_SIZE

    return options.whole(name, value, MIN_SIZE, 2048)


def make(arguments) -> None:
    """Draw ToyVOC, the embedded default data."""
    from voclab.data.drawn import draw

    given = {name: getattr(arguments, name) for name in ("train", "val", "test", "size")}
    given = {name: value for name, value in given.items() if value is not None}
    say(f"ToyVOC is in {draw('toyvoc', arguments.root, seed=arguments.seed, **given)}")


def fetch(arguments) -> None:
    """Download the original data."""
    from voclab.data.fetch import ARCHIVES, fetch
    from voclab.kaggle.fetch import fetch_competition

    source, slug, urls = arguments.source, arguments.competition, tuple(arguments.url or ())
    if source == "kaggle" and not slug:
        raise VoclabError("No competition was named; add --competition SLUG, the last part of its address.")
    stray = "--url" if source == "kaggle" else "--competition"
    if urls if source == "kaggle" else slug:
        raise VoclabError(f"{stray} does not go with {source}; leave it out.")
    if source == "kaggle":
        say(f"{slug} is in {fetch_competition(slug, arguments.root)}")
    else:
        say(f"{ARCHIVES[source].title} is in {fetch(ARCHIVES[source], arguments.root, mirrors=urls)}")


def info(arguments) -> None:
    """Count classes, sizes, objects and background."""
    from voclab.data import count_objects, find, info, load

    found = find(arguments.data)
    images = load(found.name, found.root, arguments.split)
    described = info.describe(images, objects=count_objects(found.name, found.root, arguments.split))
    say(json.dumps(described, indent=1) if arguments.json else info.table(described))


def export(arguments) -> None:
    """Write a data set in the competition's layout."""
    from voclab.data import find, load, test_split
    from voclab.kaggle.export import export

    found = find(arguments.data)
    train = load(found.name, found.root, "train")
    test = load(found.name, found.root, arguments.test_split or test_split(found.name))
    export(train, test, arguments.to, truth_root=arguments.truth)
    say(f"{found.name} is in {arguments.to}, in the competition's layout")
