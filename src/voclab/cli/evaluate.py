"""``voclab evaluate``, ``robustness``, ``consistency``, ``visualize``: what trained networks are worth."""

import json
from functools import partial
from pathlib import Path

from voclab import options
from voclab.cli import base
from voclab.errors import VoclabError
from voclab.terminal import say, start_keras, tell
from voclab.text import from_markdown

_MODEL = "a run's folder, a .keras file, or one that comes with voclab: ready, ready-segmenter"
_SIDE = "side of the images in pixels (default: the run's)"
WORST = "worst"
ATTACKS = ("generator", "noise", "fgsm", "pgd2", "pgd", WORST)
_BOUNDS = (2.0, 4.0, 8.0)  # of attacks that are named, steps of 1/255
_ATTACKED = 64  # images, so that the card of the ready networks can be checked in minutes
_SPREAD = "measure on that many images, spread over the split"
_REPORT = "where page and figures go (default: figures/robustness for drawn data, else runs/robustness/NAME)"
_SPEC = (
    "an ImageNet classifier by name (vgg16, resnet50, densenet121, efficientnet_b0, …), with Keras' weights"
    " or a file's, NAME=FILE or NAME:ALPHA=FILE; a run's folder; a .keras file; or ready"
)


def add(group) -> None:
    """Add the commands to the parser."""
    parser = base.command(group, "evaluate", evaluate)
    base.option(parser, "--model", required=True, help=_MODEL)
    base.dataset(parser)
    base.split(parser)
    base.option(parser, "--size", options.side, help=_SIDE)
    base.option(parser, "--images", options.count, help=_SPREAD)
    several = parser.add_mutually_exclusive_group()
    text = "one perturbation, e.g. gaussian, beside the clean images and nothing else; needs --level"
    base.option(several, "--noise", _perturbation, help=text)
    several.add_argument("--corruptions", action="store_true", help="also ImageNet-C's fifteen × five")
    base.option(parser, "--level", partial(options.number, high=1000), help="its strength, e.g. 0.1")
    attacks = parser.add_mutually_exclusive_group()
    attacks.add_argument("--no-attacks", action="store_true", help="leave FGSM and PGD out")
    text = (
        f"attacks, with intervals of their success: {', '.join(ATTACKS)} (default: fgsm and pgd, without"
        " intervals). The generator attacks the networks that come with voclab; worst is the worst case over"
        " APGD-CE, APGD-T and the Square attack, for classifiers"
    )
    base.option(attacks, "--attacks", _attack, nargs="+", metavar="NAME", help=text)
    text = "bounds of the attacks, of 255 (default: 2 8; of attacks that are named 2 4 8)"
    base.option(parser, "--epsilons", options.bound, nargs="+", metavar="STEPS", help=text)
    text = (
        f"attack that many of the images (default: all; of ready networks {_ATTACKED}); named attacks of one"
        " gradient or less run on all"
    )
    base.option(parser, "--attacked", options.count, help=text)
    base.seed(parser)
    text = "save the reliability diagram as PNG and SVG"
    base.option(parser, "--figure", options.target_file, metavar="FILE", help=text)
    base.json(parser, "a table")

    parser = base.command(group, "robustness", robustness)
    base.option(parser, "--model", required=True, nargs="+", metavar="PATH", help=_MODEL)
    base.dataset(parser)
    base.split(parser)
    base.option(parser, "--size", options.side, help=_SIDE)
    base.option(parser, "--images", options.count, help=_SPREAD)
    text = "images for the attacks (default: 64)"
    base.option(parser, "--attacked", options.count, default=64, help=text)
    text = "network that mCE is relative to (default: the first)"
    base.option(parser, "--baseline", metavar="NAME", help=text)
    base.seed(parser)
    base.folder(parser, "--to", _REPORT)

    parser = base.command(group, "consistency", consistency)
    base.option(parser, "--model", required=True, nargs="+", metavar="SPEC", help=_SPEC)
    images = parser.add_mutually_exclusive_group()
    base.dataset(images)
    base.option(images, "--image", metavar="PATH", help="an image, or a folder of images without labels")
    base.split(parser)
    base.option(parser, "--images", options.count, help=_SPREAD)
    base.seed(parser)
    base.folder(parser, "--to", _REPORT)
    base.json(parser, "tables")

    parser = base.command(group, "visualize", visualize)
    base.option(parser, "--model", required=True, help=_MODEL)
    base.option(parser, "--sample-id", required=True, help="id of an image, or its number from 0 on")
    base.dataset(parser)
    base.split(parser)
    base.option(parser, "--layers", nargs="+", help="whose feature maps to show (default: three)")
    base.option(parser, "--size", options.side, help=_SIDE)
    base.folder(parser, "--to", "where the images go (default: images, beside the model)")


def _perturbation(name: str, value: str) -> str:
    from voclab.corruptions import NOISES, PERTURBATIONS

    return options.one_of("perturbation", value, (*NOISES, *PERTURBATIONS))


def _measured_on(arguments):
    """The data that is named: where it was found, and the split that a network is measured on."""
    from voclab.data import find, load, test_split

    found = find(arguments.data)
    return found, load(found.name, found.root, arguments.split or test_split(found.name))


def _attack(name: str, value) -> str:
    return options.one_of("attack", value, ATTACKS)


def _report_folder(found) -> Path:
    """Where a report goes: images of others must not land among the committed figures."""
    if found.name in ("toyvoc", "toycifar"):
        return Path("figures/robustness")
    return Path("runs/robustness") / (found.root.resolve().name if found.name == "folder" else found.name)


def evaluate(arguments) -> None:
    """Measure a model, also under noise and attack."""
    from voclab.models import ready
    from voclab.models.saved import model_file

    if (arguments.noise is None) != (arguments.level is None):
        raise VoclabError("--noise and --level belong together, e.g. --noise gaussian --level 0.1.")
    if arguments.noise is not None:
        from voclab.corruptions import NOISES, require_strength

        require_strength(NOISES.get(arguments.noise, arguments.noise), arguments.level)
    about_attacks = [f"--{name}" for name in ("attacks", "epsilons", "attacked") if getattr(arguments, name)]
    if about_attacks and (arguments.noise is not None or arguments.no_attacks):
        other = "--no-attacks" if arguments.noise is None else "--noise"
        raise VoclabError(f"With {other} nothing is attacked; leave it or {' and '.join(about_attacks)} out.")
    if "generator" in (arguments.attacks or ()):
        ready.require_victim(arguments.model)
    worst = WORST in (arguments.attacks or ())
    if worst and arguments.model == ready.SEGMENTER:
        raise VoclabError(
            f"The worst case over attacks is for classifiers; name {ready.CLASSIFIER}, or pgd instead."
        )
    model_file(arguments.model)
    _, dataset = _measured_on(arguments)
    dataset.require_truth()

    start_keras()
    from voclab.evaluation import conditions

    names = ("size", "images", "noise", "level", "corruptions", "attacked", "seed")
    given = {name: getattr(arguments, name) for name in names}
    given["attacks"] = () if arguments.no_attacks else arguments.attacks
    given["epsilons"] = arguments.epsilons or (_BOUNDS if arguments.attacks else conditions.STEPS)
    models = [arguments.model]
    if arguments.model in ready.NAMES:  # what stands on their card
        given |= {"settings": {}, "attacked": arguments.attacked or _ATTACKED}
        if arguments.model == ready.CLASSIFIER and dataset.has_masks and not worst:
            models = list(ready.NAMES)
    reports = {}
    for model in models:
        progress = partial(_tell_of, model) if len(models) > 1 else tell
        reports[model] = conditions.report(model, dataset, progress=progress, **given)
    if arguments.json:
        found = {model: report.as_dict() for model, report in reports.items()}
        say(json.dumps(found if len(found) > 1 else found[arguments.model], indent=1))
    else:
        say("\n\n".join(report.text() for report in reports.values()))
    if arguments.figure:
        from voclab import plotting

        tables, eces = conditions.calibration(reports[arguments.model])
        diagram = plotting.reliability_diagram(tables, eces)
        plotting.save(diagram, Path(arguments.figure).with_suffix(""), title="Calibration")


def _tell_of(model: str, line: str) -> None:
    """Which of several networks a line is about."""
    tell(f"{model}: {line}")


def robustness(arguments) -> None:
    """Write a page on which corruptions and attacks hurt each network."""
    from voclab.models.saved import model_files

    names = list(model_files(arguments.model))
    if arguments.baseline is not None and arguments.baseline not in names:
        raise VoclabError(
            f"The baseline {arguments.baseline} is not among {', '.join(names)}; name one of them."
        )
    found, dataset = _measured_on(arguments)
    dataset.require_truth()

    start_keras()
    from voclab.evaluation import open_networks, robustness
    from voclab.reporting import pages

    to = arguments.to or _report_folder(found)
    networks = open_networks(arguments.model, dataset, arguments.size, progress=tell)
    given = {"images": arguments.images or 0, "attacked": arguments.attacked, "seed": arguments.seed}
    measured = robustness.measure(networks, dataset, to, progress=tell, **given)
    for path in pages.robustness_report(measured, networks, dataset, to, arguments.baseline):
        say(path)


def consistency(arguments) -> None:
    """Measure how often answers stay the same under ten perturbations."""
    from voclab.data import folder
    from voclab.models.saved import networks_named

    networks_named(arguments.model)
    if arguments.image and arguments.split:
        raise VoclabError("Images without labels have no splits; leave --split out, or name --data.")
    if arguments.image:
        dataset = folder.images(arguments.image)
        to = Path("runs/robustness") / dataset.name
    else:
        found, dataset = _measured_on(arguments)
        to = _report_folder(found)
    dataset = dataset.spread(arguments.images or 0)

    start_keras()
    from voclab.evaluation import consistency, open_networks
    from voclab.reporting import pages

    networks = open_networks(arguments.model, dataset, match=False, progress=tell)
    measured = consistency.study(networks, dataset, seed=arguments.seed, progress=tell)
    paths = pages.consistency_report(measured, arguments.to or to)
    if arguments.json:
        say(json.dumps(measured.as_dict(), indent=1))
        return
    say(from_markdown(pages.consistency_text(measured)), end="\n\n")
    for path in paths:
        say(path)


def visualize(arguments) -> None:
    """Show what a classifier sees and gets wrong."""
    from voclab.models.saved import folder_beside, model_file, require_layers

    model = model_file(arguments.model)
    require_layers(model, arguments.layers)
    _, dataset = _measured_on(arguments)
    dataset.require_truth()
    dataset.position(arguments.sample_id)
    to = arguments.to or folder_beside(model) / "images"

    start_keras()
    from voclab.app import visual

    given = {"layers": arguments.layers, "size": arguments.size, "progress": tell}
    for path in visual.visualize(model, dataset, arguments.sample_id, to, **given):
        say(path)
