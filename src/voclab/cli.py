"""The command ``voclab``. Each command imports what it needs, so that ``--help`` is instant."""

import argparse
import sys

from voclab import __version__, commands
from voclab.errors import VoclabError
from voclab.terminal import finish, prepare, tell
from voclab.text import plain


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 2 for something that the user can mend."""
    prepare()
    try:
        try:
            arguments = _parser().parse_args(argv)
            return arguments.run(arguments) or 0
        finally:
            finish()
    except VoclabError as error:
        tell(f"voclab: {error}")
        return 2
    except BrokenPipeError:  # `voclab … | head`
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        tell(f"voclab: {error.filename}: {error.strerror}; check the path and its permissions.")
        return 2
    except KeyboardInterrupt:
        tell("voclab: interrupted; nothing is half-written")
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Exit with status 2; the message quotes what was typed."""
        super().error(plain(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="voclab", description="PASCAL VOC notebooks, data and submissions.")
    parser.add_argument("--version", action="version", version=f"voclab {__version__}")
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_data(group)
    _add_run(group)
    _add_train(group)
    _add_evaluate(group)
    _add_visualize(group)
    _add_consistency(group)
    _add_robustness(group)
    _add_submit(group)
    pretrain = _command(group, "pretrain", commands.pretrain)
    pretrain.add_argument("--backbone", default="cnn")
    pretrain.add_argument("--images", type=int, default=10000)
    pretrain.add_argument("--epochs", type=int, default=36)
    pretrain.add_argument("--size", type=int, default=64, help="side of the pictures in pixels (default: 64)")
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--runs", default="runs", help="folder that keeps the run (default: runs)")
    badges = _command(group, "badges", commands.badges)
    badges.add_argument("--repo", metavar="OWNER/NAME", help="public address on GitHub (default: none yet)")
    badges.add_argument("--revision", help="what the notebooks install (default: the commit checked out)")
    badges.add_argument("--branch", default="main", help="where badges open the notebooks (default: main)")
    gallery = _command(group, "gallery", commands.gallery)
    gallery.add_argument("--figures", default="figures", help="folder of the figures (default: figures)")
    return parser


def _command(group, name: str, run) -> argparse.ArgumentParser:
    text = run.__doc__
    parser = group.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)
    parser.set_defaults(run=run)
    return parser


def _group(group, name: str, text: str):
    parser = group.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser.add_subparsers(required=True, metavar="COMMAND")


def _add_data(group) -> None:
    group = _group(group, "data", "make, fetch, describe and convert data sets")
    make = _command(group, "make", commands.data_make)
    make.add_argument("--root", default="data/toyvoc", help="where to (default: data/toyvoc)")
    make.add_argument("--seed", type=int, default=0)
    for split in ("train", "val", "test"):
        make.add_argument(f"--{split}", type=int, help=f"images in {split}")
    make.add_argument("--size", type=int, help="longest side in pixels")

    fetch = _command(group, "fetch", commands.data_fetch)
    fetch.add_argument("source", choices=["voc2009", "cifar10", "kaggle"])
    fetch.add_argument("--root", default="data", help="where to (default: data)")
    fetch.add_argument("--competition", metavar="SLUG", help="with kaggle: the competition's slug")
    fetch.add_argument(
        "--url",
        action="append",
        metavar="ADDRESS",
        help="with voc2009 or cifar10: a mirror, tried after the official addresses; may be repeated",
    )

    info = _command(group, "info", commands.data_info)
    _data_option(info)
    info.add_argument("--split", default="train")
    info.add_argument("--json", action="store_true", help="print JSON instead of a table")

    export = _command(group, "export", commands.data_export)
    _data_option(export)
    export.add_argument("--to", required=True, metavar="FOLDER")
    export.add_argument("--test-split", help="the list that becomes the test set (default: the held-out one)")
    export.add_argument("--truth", metavar="FOLDER", help="where the test set's truth goes, if it is wanted")


def _add_run(group) -> None:
    run = _command(group, "run", commands.run)
    run.add_argument("notebook", help="its number or name, e.g. 01, or all")
    run.add_argument("--profile", choices=["auto", "smoke", "demo", "full"])
    _data_option(run)
    run.add_argument("--pictures", help="small pictures by class, for adversarial training (notebook 04)")
    run.add_argument("--weights", help="auto, imagenet, source, none, or a weights file")
    run.add_argument("--backbone", help="another backbone for the transfer models")
    run.add_argument("--seed", type=int)
    run.add_argument("--epsilon", type=float, help="bound of the adversary in steps of 1/255 (notebook 03)")
    run.add_argument("--out", metavar="FOLDER", help="where runs, figures and submissions go")
    run.add_argument("--notebooks", default="notebooks", help="folder of the notebooks")
    target = run.add_mutually_exclusive_group()
    target.add_argument("--in-place", action="store_true", help="save into the notebook itself (ToyVOC only)")
    target.add_argument("--output", metavar="FILE", help="save the executed notebook there")


def _add_train(group) -> None:
    train = _command(group, "train", commands.train)
    train.add_argument("--dataset", "--data", help="a name, or a folder, also of pictures by class")
    train.add_argument("--model", help="cnn, resnet8, resnet20, resnet18, vgg, densenet, mobilenet_v2, …")
    train.add_argument("--augmentations", help="none, standard (default), advanced, adversarial")
    for name, kind, text in (
        ("epochs", int, "longest training (default: 20)"),
        ("rate", float, "peak learning rate (default: by optimizer)"),
        ("batch-size", int, "images a step (default: 64)"),
        ("size", int, "side of the pictures in pixels (default: their own up to 64, else 128)"),
        ("momentum", float, "of SGD (default: 0.9)"),
        ("weight-decay", float, "on kernels, times the rate (default: 1e-4)"),
        ("dropout", float, "before the last layer (default: 0.2)"),
        ("mixup", float, "alpha of mixup (default: 0, none)"),
        ("width", float, "of the network (default: as published)"),
        ("epsilon", float, "bound of adversarial training in steps of 1/255 (default: 8)"),
        ("steps", int, "PGD steps inside it (default: 4)"),
        ("patience", int, "epochs without a better score before it stops (default: 15)"),
        ("seed", int, "of everything (default: 0)"),
    ):
        train.add_argument(f"--{name}", type=kind, help=text)
    train.add_argument("--label-smoothing", dest="smoothing", type=float, help="from 0 (default) to 1")
    train.add_argument("--optimizer", help="adam (default) or sgd")
    train.add_argument("--weights", help="imagenet, or a file with the backbone's weights")
    train.add_argument(
        "--config", metavar="FILE", help="a run's config.json to repeat; other options change it"
    )
    train.add_argument("--name", help="folder of the run (default: by data, model and augmentations)")
    train.add_argument("--runs", default="runs", help="folder of the runs (default: runs)")


def _add_evaluate(group) -> None:
    evaluate = _command(group, "evaluate", commands.evaluate)
    evaluate.add_argument("--model", required=True, help="a run's folder, or a .keras file")
    evaluate.add_argument(
        "--dataset",
        "--data",
        dest="data",
        help="a name, or a folder (default: what is found in data/)",
    )
    evaluate.add_argument("--split", help="a list of the data set (default: the held-out one)")
    evaluate.add_argument("--size", type=int, help="side of the photos in pixels (default: the run's)")
    evaluate.add_argument("--images", type=int, help="measure on that many photos, spread over the split")
    evaluate.add_argument("--noise", help="one perturbation instead of all, e.g. gaussian; needs --level")
    evaluate.add_argument("--level", type=float, help="its strength, e.g. 0.1")
    evaluate.add_argument("--no-attacks", action="store_true", help="leave FGSM and PGD out")
    evaluate.add_argument("--corruptions", action="store_true", help="also ImageNet-C's fifteen × five")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--figure", metavar="FILE", help="save the reliability diagram as PNG and SVG")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_visualize(group) -> None:
    visualize = _command(group, "visualize", commands.visualize)
    visualize.add_argument("--model", required=True, help="a run's folder, or a .keras file")
    visualize.add_argument("--sample-id", required=True, help="id of a picture, or its number from 0 on")
    _data_option(visualize)
    visualize.add_argument("--split", help="a list of the data set (default: the held-out one)")
    visualize.add_argument("--layers", nargs="+", help="whose feature maps to show (default: three)")
    visualize.add_argument("--size", type=int, help="side of the pictures in pixels (default: the run's)")
    visualize.add_argument("--to", metavar="FOLDER", help="where the pictures go (default: MODEL/pictures)")


def _add_robustness(group) -> None:
    robustness = _command(group, "robustness", commands.robustness)
    robustness.add_argument(
        "--model", required=True, nargs="+", metavar="PATH", help="folders of runs, or .keras files"
    )
    _data_option(robustness)
    robustness.add_argument("--split", help="a list of the data set (default: the held-out one)")
    robustness.add_argument("--size", type=int, help="side of the photos in pixels (default: the run's)")
    robustness.add_argument("--images", type=int, default=0, help="that many photos (default: all)")
    robustness.add_argument("--attacked", type=int, default=64, help="photos for the attacks (default: 64)")
    robustness.add_argument(
        "--baseline", metavar="NAME", help="network that mCE is relative to (default: the first)"
    )
    robustness.add_argument("--seed", type=int, default=0)
    robustness.add_argument(
        "--to", metavar="FOLDER", help="default: figures/robustness for drawn data, else runs/robustness/NAME"
    )


def _add_consistency(group) -> None:
    consistency = _command(group, "consistency", commands.consistency)
    consistency.add_argument(
        "--model",
        required=True,
        nargs="+",
        metavar="SPEC",
        help="an ImageNet classifier by name (vgg16, resnet50, densenet121, efficientnet_b0, …), with Keras'"
        " weights or with a file's, NAME=FILE or NAME:ALPHA=FILE; a run's folder; or a .keras file",
    )
    photos = consistency.add_mutually_exclusive_group()
    _data_option(photos)
    photos.add_argument("--image", metavar="PATH", help="a picture, or a folder of pictures without labels")
    consistency.add_argument("--split", help="a list of the data set (default: the held-out one)")
    consistency.add_argument("--images", type=int, help="measure on that many photos, spread evenly")
    consistency.add_argument("--seed", type=int, default=0)
    consistency.add_argument(
        "--to",
        metavar="FOLDER",
        help="where page and figures go (default: figures/robustness for drawn data, else"
        " runs/robustness/DATA)",
    )
    consistency.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_submit(group) -> None:
    group = _group(group, "submit", "check, merge, score and send submission files")
    check = _command(group, "check", commands.submit_check)
    check.add_argument("file")
    check.add_argument("--data", help="data set whose held-out images the file must cover")
    check.add_argument("--split", help="another list of that data set")
    merge = _command(group, "merge", commands.submit_merge)
    merge.add_argument("parts", nargs="+", metavar="FILE")
    merge.add_argument("--to", required=True, metavar="FILE")
    push = _command(group, "push", commands.submit_push)
    push.add_argument("file")
    push.add_argument("--competition", required=True, metavar="SLUG", help="last part of its address")
    push.add_argument("--message", help="description on Kaggle (default: the file and its run)")
    push.add_argument("--wait", action="store_true", help="wait for the score and print it")
    push.add_argument("--again", action="store_true", help="send a file that was sent before")
    push.add_argument(
        "--data", help="data set whose held-out images the file must cover (default: data/SLUG, if there)"
    )
    push.add_argument("--split", help="another list of that data set")
    score = _command(group, "score", commands.submit_score)
    score.add_argument("prediction")
    score.add_argument("truth", help="a submission file made of the truth")
    score.add_argument("--json", action="store_true", help="print JSON")


def _data_option(parser) -> None:
    parser.add_argument(
        "--data",
        "--dataset",
        help="voc2009, kaggle, toyvoc, cifar10, toycifar, or a folder, also of pictures by class (default:"
        " what is found in data/)",
    )


if __name__ == "__main__":
    sys.exit(main())
