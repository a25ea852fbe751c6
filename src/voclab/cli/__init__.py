"""The command ``voclab``. Each command imports what it needs, so that ``--help`` is instant."""

import argparse
import sys

from voclab import __version__
from voclab.cli import (
    app,
    attack,
    data,
    evaluate,
    export,
    kaggle,
    predict,
    run,
    site,
    sweep,
    train,
    uncertainty,
)
from voclab.errors import VoclabError
from voclab.terminal import finish, prepare, say, tell
from voclab.text import plain

GROUPS = (predict, attack, data, run, train, sweep, evaluate, uncertainty, app, export, kaggle, site)
# What an earlier version took -> what to do now.
OLD = {
    "pretrain": "`voclab pretrain` is gone; ImageNet weights take its place: see `voclab run --weights`.",
    "--augmentations": "--augmentations is called --augmentation now.",
    "--rate": "--rate is called --learning-rate now.",
    "--mode": "--mode is gone: an adversary always looks at the image.",
    "--pictures": "--pictures is called --small-images now.",
}


def main(argv: list[str] | None = None) -> int | str | None:
    """Run a command; returns the exit status: 0 done, 2 for something that the user can fix."""
    prepare()
    try:
        try:
            argv = sys.argv[1:] if argv is None else argv
            _refuse_old_names(argv)
            arguments = parser().parse_args(argv)
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
        if error.filename is not None:
            tell(f"voclab: {error.filename}: {error.strerror}; check the path and its permissions.")
        elif isinstance(error, FileNotFoundError):  # of os.getcwd
            tell("voclab: The folder that this was started in is gone; change to another one.")
        else:
            raise
        return 2
    except KeyboardInterrupt:
        tell("voclab: interrupted; nothing is half-written")
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Say in one sentence what cannot be understood, and exit with status 2."""
        tell(f"voclab: {plain(message)}; see `{self.prog} --help`.")
        self.exit(2)

    def _print_message(self, message: str, file=None):
        """Help and version as everything else: argparse keeps quiet about a full disk."""
        (say if file is sys.stdout else tell)(message, end="")


def _refuse_old_names(argv: list[str]) -> None:
    for word in (*argv[:1], *(word.partition("=")[0] for word in argv if word.startswith("--"))):
        if word in OLD:
            raise VoclabError(OLD[word])


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = _Parser(prog="voclab", description="PASCAL VOC: networks, notebooks, data, submissions.")
    parser.add_argument("--version", action="version", version=f"voclab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add(commands)
    return parser
