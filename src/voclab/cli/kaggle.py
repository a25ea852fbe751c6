"""``voclab submit``: check, merge, score and send submission files."""

import json
from pathlib import Path

from voclab import options
from voclab.cli import base
from voclab.errors import VoclabError
from voclab.terminal import say


def add(group) -> None:
    """Add the commands to the parser."""
    group = base.subcommands(group, "submit", "check, merge, score and send submission files")
    covered = "data set whose test images the file must cover"
    parser = base.command(group, "check", check)
    base.option(parser, "file")
    base.option(parser, "--data", help=covered)
    base.option(parser, "--split", help="another list of that data set")

    parser = base.command(group, "merge", merge)
    base.option(parser, "parts", nargs="+", metavar="FILE")
    base.option(parser, "--to", _target, required=True, metavar="FILE")

    parser = base.command(group, "push", push)
    base.option(parser, "file")
    base.option(parser, "--competition", required=True, metavar="SLUG", help="last part of its address")
    base.option(parser, "--message", help="description on Kaggle (default: the file and its run)")
    parser.add_argument("--wait", action="store_true", help="wait for the score and print it")
    parser.add_argument("--again", action="store_true", help="send a file that was sent before")
    base.option(parser, "--data", help=f"{covered} (default: data/SLUG, if there)")
    base.option(parser, "--split", help="another list of that data set")

    parser = base.command(group, "truth", truth)
    base.dataset(parser)
    base.split(parser)
    base.option(parser, "--truth", metavar="FOLDER", help="where `data export --truth` put it")
    base.option(parser, "--to", _target, required=True, metavar="FILE")

    parser = base.command(group, "score", score)
    base.option(parser, "prediction")
    base.option(parser, "truth", help="a submission file made of the truth, see `submit truth`")
    base.json(parser, "a table")


def _target(name: str, value) -> Path:
    """A file that can be written, and that is no other than a submission if it is there."""
    path = options.target_file(name, value)
    if path.is_file() and path.stat().st_size and not _is_submission(path):
        raise VoclabError(
            f"{name} is {path}, which is there and no submission; move it, or name another file."
        )
    return path


def _is_submission(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(40).replace(b'"', b"").startswith(b"Id,Predicted")
    except OSError as error:
        raise VoclabError(f"{path} cannot be read ({error.strerror}); name another file.") from error


def _expected(data: str | None, split: str | None) -> dict:
    """Ids and sizes of the images that a submission must cover, as far as a data set is named."""
    if data is None:
        return {}
    from voclab.data import VOC_CLASSES, find, load, test_split

    found = find(data)
    images = load(found.name, found.root, split or test_split(found.name))
    if set(images.class_names) != set(VOC_CLASSES):
        raise VoclabError(f"{data} has other classes than the competition's twenty of VOC; name other data.")
    sizes = {name: images.image(i).shape[:2] for i, name in enumerate(images.ids)}
    return {"ids": images.ids, "shapes": sizes}


def check(arguments) -> None:
    """Say whether a submission file is valid."""
    from voclab import kaggle

    report = kaggle.check_submission(arguments.file, **_expected(arguments.data, arguments.split))
    say("\n".join([f"{arguments.file} is valid: {report}", *report.remarks()]))


def push(arguments) -> None:
    """Check a submission file and send it to Kaggle."""
    from voclab import kaggle

    fetched = Path("data") / arguments.competition
    data = arguments.data or (str(fetched) if fetched.is_dir() else None)
    given = {name: getattr(arguments, name) for name in ("message", "wait", "again")}
    given |= _expected(data, arguments.split)
    kaggle.push_submission(arguments.file, arguments.competition, **given)


def merge(arguments) -> None:
    """Join classification and segmentation rows."""
    from voclab import kaggle

    kaggle.merge_submissions(arguments.to, *arguments.parts)
    say(f"{arguments.to} is written")


def truth(arguments) -> None:
    """Write a data set's truth as the file that `submit score` wants."""
    from voclab import kaggle
    from voclab.data import competition, find, load, test_split

    found = find(arguments.data)
    split = arguments.split or test_split(found.name)
    if arguments.truth:
        if found.name != "kaggle":
            raise VoclabError(f"{found.name} brings its own truth; leave --truth out.")
        dataset = competition.read(found.root, split, truth_root=arguments.truth)
    else:
        dataset = load(found.name, found.root, split)
    report = kaggle.write_truth(arguments.to, dataset)
    say("\n".join([f"The truth of {found.name} {split} is in {arguments.to}: {report}", *report.remarks()]))


def score(arguments) -> None:
    """Score a submission as the competition does."""
    from voclab import kaggle

    score = kaggle.score_submission(arguments.prediction, arguments.truth)
    parts = {"mean": score.mean, "classification": score.classification, "segmentation": score.segmentation}
    if arguments.json:
        say(json.dumps(parts))
        return
    for name, value in parts.items():
        say(f"{name:15s} {'-' if value is None else format(value, '.4f')}")
