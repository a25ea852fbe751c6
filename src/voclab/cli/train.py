"""``voclab train``: train one network by name."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from voclab import options
from voclab.cli import base
from voclab.errors import VoclabError
from voclab.experiments.options import OPTIONS, asked, option, usual_name
from voclab.processes import cluster
from voclab.terminal import say, start_keras


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "train", train)
    add_options(parser)
    text = "folder of the run (default: by data, model and augmentation)"
    base.option(parser, "--name", options.own_folder, help=text)
    text = "write curves into logs of the run, for `tensorboard --logdir`"
    parser.add_argument("--tensorboard", action="store_true", help=text)
    base.folder(parser, "--runs", "folder of the runs (default: runs)", default="runs")


def add_options(parser) -> None:
    """Add every option of a training, and ``--config``."""
    for name, known in OPTIONS.items():
        flag = option(name)
        metavar = flag.strip("-").replace("-", "_").upper()
        base.option(parser, flag, known.check, dest=name, metavar=metavar, help=known.help)
    text = "a run's config.json to repeat; other options change it"
    base.option(parser, "--config", metavar="FILE", help=text)


def train(arguments) -> None:
    """Train a classifier, a segmenter or an adversary by name."""
    found = asked({name: getattr(arguments, name) for name in OPTIONS}, arguments.config)
    if arguments.tensorboard and find_spec("tensorboard") is None:
        raise VoclabError(
            '--tensorboard needs TensorBoard; install it with pip install "voclab[tensorboard]".'
        )
    machines = cluster()
    if machines:
        _require_shareable(found)
    require_sources(found)

    start_keras()
    from voclab.backend import is_chief, use_all_gpus, use_machines
    from voclab.experiments.train import trained

    if machines:
        use_machines(machines, found["batch_size"])
    else:
        use_all_gpus(found["batch_size"])
    name, runs = arguments.name or usual_name(found), Path(arguments.runs)
    run = trained(found, name, runs, tensorboard=arguments.tensorboard)
    say(run.folder if is_chief() else f"{run.name}: complete; the chief has it.")


def require_sources(found: Mapping[str, Any]) -> None:
    """Refuse data or a victim that is not there, before Keras is imported."""
    from voclab.data import find
    from voclab.models.saved import model_file

    find(found["dataset"])
    if found["task"] == "adversary":
        model_file(found["victim"])


def _require_shareable(found: Mapping[str, Any]) -> None:
    if "adversary" in found["task"] or found["augmentation"] == "adversarial":
        raise VoclabError("An adversary and adversarial training take one machine; unset TF_CONFIG.")
