"""``voclab train``: train one network by name."""

from pathlib import Path

from voclab import options
from voclab.cli import base
from voclab.experiments.options import OPTIONS, asked, option, usual_name
from voclab.terminal import say


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "train", train)
    for name, known in OPTIONS.items():
        flag = option(name)
        metavar = flag.strip("-").replace("-", "_").upper()
        base.option(parser, flag, known.check, dest=name, metavar=metavar, help=known.help)
    text = "a run's config.json to repeat; other options change it"
    base.option(parser, "--config", metavar="FILE", help=text)
    text = "folder of the run (default: by data, model and augmentation)"
    base.option(parser, "--name", options.own_folder, help=text)
    base.folder(parser, "--runs", "folder of the runs (default: runs)", default="runs")


def train(arguments) -> None:
    """Train a classifier, a segmenter or an adversary by name."""
    from voclab.data import find
    from voclab.models.saved import model_file

    found = asked({name: getattr(arguments, name) for name in OPTIONS}, arguments.config)
    find(found["dataset"])
    if found["task"] == "adversary":
        model_file(found["victim"])

    from voclab.backend import use_all_gpus
    from voclab.experiments.train import trained

    use_all_gpus(found["batch_size"])
    say(trained(found, arguments.name or usual_name(found), Path(arguments.runs)).folder)
