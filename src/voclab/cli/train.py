"""``voclab train``: train one network by name."""

from pathlib import Path

from voclab import options
from voclab.cli import base
from voclab.experiments import plan
from voclab.terminal import say

# Field of a plan -> help.
_HELP = {
    "dataset": "a name, or a folder, also of images by class",
    "model": "small_cnn, resnet8, resnet20, resnet18, vgg, densenet, mobilenet_v2, …",
    "augmentation": "none, standard (default), advanced, adversarial",
    "epochs": "longest training (default: 20)",
    "learning_rate": "its peak (default: by optimizer)",
    "batch_size": "images a step (default: 64)",
    "size": "side of the images in pixels (default: their own up to 64, else 128)",
    "momentum": "of SGD (default: 0.9)",
    "weight_decay": "on kernels, times the learning rate (default: 1e-4)",
    "dropout": "before the last layer (default: 0.2)",
    "mixup": "alpha of mixup (default: 0, none)",
    "width": "of the network (default: as published)",
    "epsilon": "bound of adversarial training in steps of 1/255 (default: 8)",
    "steps": "PGD steps inside it (default: 4)",
    "patience": "epochs without a better score before it stops (default: 15)",
    "seed": "of everything random (default: 0)",
    "smoothing": "from 0 (default) to 1",
    "optimizer": "adam (default) or sgd",
    "weights": "imagenet, or a file with the backbone's weights",
}


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "train", train)
    for field, text in _HELP.items():
        name = plan.option(field)
        metavar = name.strip("-").replace("-", "_").upper()
        base.option(parser, name, plan.CHECKS[field], dest=field, metavar=metavar, help=text)
    text = "a run's config.json to repeat; other options change it"
    base.option(parser, "--config", metavar="FILE", help=text)
    text = "folder of the run (default: by data, model and augmentation)"
    base.option(parser, "--name", options.own_folder, help=text)
    base.folder(parser, "--runs", "folder of the runs (default: runs)", default="runs")


def train(arguments) -> None:
    """Train one classifier by name."""
    from voclab.data import find

    asked = {name: getattr(arguments, name, None) for name in plan.CHECKS}
    planned = plan.plan_from(asked, arguments.config)
    find(planned.dataset)

    from voclab.backend import use_all_gpus
    from voclab.experiments import training

    use_all_gpus(planned.batch_size)
    name = arguments.name or plan.usual_name(planned)
    say(training.train_classifier(planned, name, Path(arguments.runs)).folder)
