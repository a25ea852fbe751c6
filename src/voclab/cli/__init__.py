"""The command ``voclab``. Each command imports what it needs, so that ``--help`` is instant."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from voclab import __version__, options
from voclab.cli import commands
from voclab.errors import VoclabError
from voclab.experiments import plan
from voclab.profiles import PROFILES
from voclab.terminal import finish, prepare, say, tell
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
    except SystemExit as ended:  # help, or an option that the parser itself refuses
        return ended.code
    except VoclabError as error:
        tell(f"voclab: {error}")
        return 2
    except BrokenPipeError:  # `voclab … | head`
        return 0
    except OSError as error:
        if error.filename is None:
            if _has_folder():
                raise
            tell("voclab: The folder that this was started in is gone; change to another one.")
            return 2
        tell(f"voclab: {error.filename}: {error.strerror}; check the path and its permissions.")
        return 2
    except KeyboardInterrupt:
        tell("voclab: interrupted; nothing is half-written")
        return 130


def _has_folder() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Say in one sentence what cannot be understood, and exit with status 2."""
        tell(f"voclab: {plain(message)}; see `{self.prog} --help`.")
        self.exit(2)

    def _print_message(self, message: str, file=None):
        """Help and version as everything else: argparse keeps quiet about a full disk."""
        (say if file is sys.stdout else tell)(message, end="")


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
    badges = _command(group, "badges", commands.badges)
    _option(badges, "--repo", metavar="OWNER/NAME", help="public address on GitHub (default: none yet)")
    _option(badges, "--revision", help="what the notebooks install (default: the commit checked out)")
    _option(badges, "--branch", default="main", help="where badges open the notebooks (default: main)")
    gallery = _command(group, "gallery", commands.gallery)
    _option(gallery, "--figures", default="figures", help="folder of the figures (default: figures)")
    return parser


def _option(parser, name: str, check: Callable[[str, str], Any] = options.text, **settings) -> None:
    """Add an option, or an argument, whose value is checked and converted while the command line is read.

    Names and ranges are checked here; what must exist is looked for by the command, before it imports Keras.
    """
    names = {"--dataset": ("--dataset", "--data"), "--data": ("--data", "--dataset")}.get(name, (name,))
    parser.add_argument(*names, type=partial(check, name), **settings)


def _seed(parser, **settings) -> None:
    _option(parser, "--seed", options.seed, **({"default": 0} | settings))


def _backbone(name: str, value: str) -> str:
    from voclab.models.catalogue import BACKBONES

    return options.one_of(name, value, BACKBONES)


def _perturbation(name: str, value: str) -> str:
    from voclab.corruptions import NOISES, PERTURBATIONS

    return options.one_of("perturbation", value, (*NOISES, *PERTURBATIONS))


def _drawn_side(name: str, value: str) -> int:
    from toyvoc.base import MIN_SIZE

    return options.whole(name, value, MIN_SIZE, 2048)


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
    _option(
        make, "--root", options.target_folder, default="data/toyvoc", help="where to (default: data/toyvoc)"
    )
    _seed(make)
    for split in ("train", "val", "test"):
        _option(make, f"--{split}", partial(options.whole, high=100_000), help=f"images in {split}")
    _option(make, "--size", _drawn_side, help="longest side in pixels")

    fetch = _command(group, "fetch", commands.data_fetch)
    fetch.add_argument("source", choices=["voc2009", "cifar10", "kaggle"])
    _option(fetch, "--root", options.target_folder, default="data", help="where to (default: data)")
    _option(fetch, "--competition", metavar="SLUG", help="with kaggle: the competition's slug")
    _option(
        fetch,
        "--url",
        action="append",
        metavar="ADDRESS",
        help="with voc2009 or cifar10: a mirror, tried after the official addresses; may be repeated",
    )

    info = _command(group, "info", commands.data_info)
    _data_option(info)
    _option(info, "--split", default="train", help="a list of the data set (default: train)")
    info.add_argument("--json", action="store_true", help="print JSON instead of a table")

    export = _command(group, "export", commands.data_export)
    _data_option(export)
    _option(export, "--to", options.target_folder, required=True, metavar="FOLDER")
    _option(export, "--test-split", help="the list that becomes the test set (default: its test set)")
    _option(
        export,
        "--truth",
        options.target_folder,
        metavar="FOLDER",
        help="where the test set's truth goes, if it is wanted",
    )


def _add_run(group) -> None:
    run = _command(group, "run", commands.run)
    _option(run, "notebook", help="its number or name, e.g. 01, or all")
    _option(
        run,
        "--profile",
        partial(options.one_of, allowed=("auto", *PROFILES)),
        help=f"auto, {', '.join(PROFILES)}",
    )
    _data_option(run)
    _option(run, "--small-images", help="small images by class, for adversarial training (notebook 04)")
    _option(run, "--weights", help="auto, imagenet, none, or a weights file")
    _option(run, "--backbone", _backbone, help="another backbone for the transfer models")
    _seed(run, default=None)
    _option(
        run,
        "--epsilon",
        options.bound,
        help="bound of the adversary in steps of 1/255 (notebook 03)",
    )
    _option(
        run, "--out", options.target_folder, metavar="FOLDER", help="where runs, figures and submissions go"
    )
    _option(run, "--notebooks", default="notebooks", help="folder of the notebooks")
    target = run.add_mutually_exclusive_group()
    target.add_argument("--in-place", action="store_true", help="save into the notebook itself (ToyVOC only)")
    _option(target, "--output", options.target_file, metavar="FILE", help="save the executed notebook there")


def _add_train(group) -> None:
    train = _command(group, "train", commands.train)
    for field, text in (
        ("dataset", "a name, or a folder, also of images by class"),
        ("model", "cnn, resnet8, resnet20, resnet18, vgg, densenet, mobilenet_v2, …"),
        ("augmentation", "none, standard (default), advanced, adversarial"),
        ("epochs", "longest training (default: 20)"),
        ("learning_rate", "its peak (default: by optimizer)"),
        ("batch_size", "images a step (default: 64)"),
        ("size", "side of the images in pixels (default: their own up to 64, else 128)"),
        ("momentum", "of SGD (default: 0.9)"),
        ("weight_decay", "on kernels, times the rate (default: 1e-4)"),
        ("dropout", "before the last layer (default: 0.2)"),
        ("mixup", "alpha of mixup (default: 0, none)"),
        ("width", "of the network (default: as published)"),
        ("epsilon", "bound of adversarial training in steps of 1/255 (default: 8)"),
        ("steps", "PGD steps inside it (default: 4)"),
        ("patience", "epochs without a better score before it stops (default: 15)"),
        ("seed", "of everything (default: 0)"),
        ("smoothing", "from 0 (default) to 1"),
        ("optimizer", "adam (default) or sgd"),
        ("weights", "imagenet, or a file with the backbone's weights"),
    ):
        name = plan.option(field)
        metavar = name.strip("-").replace("-", "_").upper()
        _option(train, name, plan.CHECKS[field], dest=field, metavar=metavar, help=text)
    _option(train, "--config", metavar="FILE", help="a run's config.json to repeat; other options change it")
    _option(
        train,
        "--name",
        options.own_folder,
        help="folder of the run (default: by data, model and augmentations)",
    )
    _option(train, "--runs", options.target_folder, default="runs", help="folder of the runs (default: runs)")


def _add_evaluate(group) -> None:
    evaluate = _command(group, "evaluate", commands.evaluate)
    _option(evaluate, "--model", required=True, help="a run's folder, or a .keras file")
    _data_option(evaluate)
    _split(evaluate)
    _option(evaluate, "--size", options.side, help="side of the images in pixels (default: the run's)")
    _option(evaluate, "--images", options.count, help="measure on that many images, spread over the split")
    several = evaluate.add_mutually_exclusive_group()
    _option(
        several,
        "--noise",
        _perturbation,
        help="one perturbation, e.g. gaussian, beside the clean images and nothing else; needs --level",
    )
    several.add_argument("--corruptions", action="store_true", help="also ImageNet-C's fifteen × five")
    _option(evaluate, "--level", partial(options.number, high=1000), help="its strength, e.g. 0.1")
    evaluate.add_argument("--no-attacks", action="store_true", help="leave FGSM and PGD out")
    _seed(evaluate)
    _option(
        evaluate,
        "--figure",
        options.target_file,
        metavar="FILE",
        help="save the reliability diagram as PNG and SVG",
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_visualize(group) -> None:
    visualize = _command(group, "visualize", commands.visualize)
    _option(visualize, "--model", required=True, help="a run's folder, or a .keras file")
    _option(visualize, "--sample-id", required=True, help="id of an image, or its number from 0 on")
    _data_option(visualize)
    _split(visualize)
    _option(visualize, "--layers", nargs="+", help="whose feature maps to show (default: three)")
    _option(visualize, "--size", options.side, help="side of the images in pixels (default: the run's)")
    _option(
        visualize,
        "--to",
        options.target_folder,
        metavar="FOLDER",
        help="where the images go (default: MODEL/images)",
    )


def _add_robustness(group) -> None:
    robustness = _command(group, "robustness", commands.robustness)
    _option(
        robustness,
        "--model",
        required=True,
        nargs="+",
        metavar="PATH",
        help="folders of runs, or .keras files",
    )
    _data_option(robustness)
    _split(robustness)
    _option(robustness, "--size", options.side, help="side of the images in pixels (default: the run's)")
    _option(robustness, "--images", options.count, help="that many images (default: all)")
    _option(robustness, "--attacked", options.count, default=64, help="images for the attacks (default: 64)")
    _option(
        robustness,
        "--baseline",
        metavar="NAME",
        help="network that mCE is relative to (default: the first)",
    )
    _seed(robustness)
    _option(
        robustness,
        "--to",
        options.target_folder,
        metavar="FOLDER",
        help="default: figures/robustness for drawn data, else runs/robustness/NAME",
    )


def _add_consistency(group) -> None:
    consistency = _command(group, "consistency", commands.consistency)
    _option(
        consistency,
        "--model",
        required=True,
        nargs="+",
        metavar="SPEC",
        help="an ImageNet classifier by name (vgg16, resnet50, densenet121, efficientnet_b0, …), with Keras'"
        " weights or with a file's, NAME=FILE or NAME:ALPHA=FILE; a run's folder; or a .keras file",
    )
    images = consistency.add_mutually_exclusive_group()
    _data_option(images)
    _option(images, "--image", metavar="PATH", help="an image, or a folder of images without labels")
    _split(consistency)
    _option(consistency, "--images", options.count, help="measure on that many images, spread evenly")
    _seed(consistency)
    _option(
        consistency,
        "--to",
        options.target_folder,
        metavar="FOLDER",
        help="where page and figures go (default: figures/robustness for drawn data, else"
        " runs/robustness/DATA)",
    )
    consistency.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_submit(group) -> None:
    group = _group(group, "submit", "check, merge, score and send submission files")
    check = _command(group, "check", commands.submit_check)
    _option(check, "file")
    _option(check, "--data", help="data set whose test images the file must cover")
    _option(check, "--split", help="another list of that data set")
    merge = _command(group, "merge", commands.submit_merge)
    _option(merge, "parts", nargs="+", metavar="FILE")
    _option(merge, "--to", options.target_file, required=True, metavar="FILE")
    push = _command(group, "push", commands.submit_push)
    _option(push, "file")
    _option(push, "--competition", required=True, metavar="SLUG", help="last part of its address")
    _option(push, "--message", help="description on Kaggle (default: the file and its run)")
    push.add_argument("--wait", action="store_true", help="wait for the score and print it")
    push.add_argument("--again", action="store_true", help="send a file that was sent before")
    _option(
        push,
        "--data",
        help="data set whose test images the file must cover (default: data/SLUG, if there)",
    )
    _option(push, "--split", help="another list of that data set")
    truth = _command(group, "truth", commands.submit_truth)
    _data_option(truth)
    _split(truth)
    _option(truth, "--truth", metavar="FOLDER", help="where `data export --truth` put it")
    _option(truth, "--to", options.target_file, required=True, metavar="FILE")
    score = _command(group, "score", commands.submit_score)
    _option(score, "prediction")
    _option(score, "truth", help="a submission file made of the truth, see `submit truth`")
    score.add_argument("--json", action="store_true", help="print JSON")


def _data_option(parser) -> None:
    _option(
        parser,
        "--data",
        help="voc2009, kaggle, toyvoc, cifar10, toycifar, or a folder, also of images by class (default:"
        " what is found in data/)",
    )


def _split(parser) -> None:
    _option(parser, "--split", help="a list of the data set (default: its test set)")


if __name__ == "__main__":
    sys.exit(main())
