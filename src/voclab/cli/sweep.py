"""``voclab sweep``: search settings of a training."""

from importlib.util import find_spec
from pathlib import Path

from voclab import options
from voclab.cli import base
from voclab.cli.train import add_options, require_sources
from voclab.errors import VoclabError
from voclab.experiments.options import OPTIONS
from voclab.experiments.search import plan
from voclab.terminal import say, start_keras


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "sweep", sweep)
    add_options(parser)
    text = "settings to search: NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C"
    base.option(parser, "--search", required=True, nargs="+", metavar="SETTING", help=text)
    text = "trials in all, of every process that takes part (default: 20)"
    base.option(parser, "--trials", options.count, default=20, help=text)
    base.option(parser, "--name", options.own_folder, required=True, help="folder of the sweep")
    text = "database that knows the trials, e.g. sqlite:///trials.db (default: a file in the sweep's folder)"
    base.option(parser, "--storage", metavar="URL", help=text)
    base.folder(parser, "--runs", "folder of the runs (default: runs)", default="runs")


def sweep(arguments) -> None:
    """Search settings of `voclab train` on validation images; to go on, or to help, run it again."""
    found = plan({name: getattr(arguments, name) for name in OPTIONS}, arguments.search, arguments.config)
    if find_spec("optuna") is None:
        raise VoclabError('A sweep needs Optuna; install it with pip install "voclab[sweep]".')
    first, runs = found.first(), Path(arguments.runs)
    require_sources(first)

    start_keras()
    from voclab.backend import use_all_gpus
    from voclab.experiments.sweep import SCORE, short, sweep
    from voclab.reporting.sweep import sweep_report

    if "batch_size" not in found.searched:  # which they must divide
        use_all_gpus(first["batch_size"])
    table, score = sweep(found, arguments.name, runs, arguments.trials, arguments.storage)
    folder = runs / arguments.name
    for path in sweep_report(table, score, found, folder):
        say(path)
    if table[SCORE].notna().any():
        best = table[SCORE].idxmax()
        values = ", ".join(f"{name} {short(table.loc[best, name])}" for name in found.searched)
        figure = f"validation {score} {table.loc[best, SCORE]:.3f}"
        say(f"Best of {len(table)}: {folder / f'trial-{best}'}, {figure}: {values}")
