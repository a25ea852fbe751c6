"""What groups of commands add to the parser: commands, and options that are checked as they are read."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from voclab import options


def command(group, name: str, run: Callable) -> argparse.ArgumentParser:
    """Add the command that ``run(arguments)`` carries out; its docstring is the help."""
    text = run.__doc__ or ""
    parser = group.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)
    parser.set_defaults(run=run)
    return parser


def subcommands(group, name: str, text: str):
    """Add a command that has commands of its own, such as ``voclab data``; returns their group."""
    parser = group.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser.add_subparsers(required=True, metavar="COMMAND")


def option(parser, name: str, check: Callable[[str, str], Any] = options.text, **settings) -> None:
    """Add an option, or an argument, whose value is checked and converted while the command line is read.

    Names and ranges are checked here; what must exist is looked for by the command, before it imports Keras.
    """
    names = {"--dataset": ("--dataset", "--data"), "--data": ("--data", "--dataset")}.get(name, (name,))
    parser.add_argument(*names, type=partial(check, name), **settings)


def folder(parser, name: str, text: str, **settings) -> None:
    """Add an option that names a folder to write into."""
    option(parser, name, options.target_folder, **{"metavar": "FOLDER", "help": text, **settings})


def seed(parser) -> None:
    """Add ``--seed``."""
    option(parser, "--seed", options.seed, default=0, help="of everything random (default: 0)")


def dataset(parser) -> None:
    """Add ``--data``."""
    text = "voc2009, kaggle, toyvoc, cifar10, toycifar, or a folder, also of images by class"
    option(parser, "--data", help=f"{text} (default: what is found in data/)")


def split(parser) -> None:
    """Add ``--split``, of data that is measured on."""
    option(parser, "--split", help="a list of the data set (default: its test set)")


def json(parser, instead: str) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help=f"print JSON instead of {instead}")
