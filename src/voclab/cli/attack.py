"""``voclab attack``: photos changed slightly, so that the networks give another answer."""

import json
from functools import partial
from pathlib import Path

from voclab import options
from voclab.cli import base
from voclab.cli.predict import in_a_line, one_by_one
from voclab.errors import VoclabError
from voclab.terminal import say, start_keras, tell

METHODS = ("generator", "fgsm", "pgd", "noise")
VICTIMS = ("classifier", "segmenter", "both")
GOALS = ("appear", "vanish")
MOST = 16  # the largest epsilon, steps of an 8-bit value
_MARK = "voclab attack"  # in the files written, which a later attack may replace
_FOLLOW_A_GRADIENT = ("fgsm", "pgd")  # that of one network


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "attack", attack)
    base.option(parser, "images", nargs="+", metavar="IMAGE", help="an image, or a folder of images")
    text = f"largest change of a pixel value, in steps of 1/255, 0 to {MOST} (default: 4)"
    base.option(parser, "--epsilon", _epsilon, default=4.0, help=text)
    text = "the network to fool (default: both; for fgsm and pgd classifier)"
    _choice(parser, "--victim", VICTIMS, text)
    text = "make a class appear or vanish (default: any wrong answer); needs --class"
    _choice(parser, "--goal", GOALS, text)
    base.option(parser, "--class", dest="class_name", metavar="NAME", help="which one, e.g. sheep")
    text = (
        "generator: trained, comes with voclab; fgsm: one gradient; pgd: ten; noise: random signs, a control"
        " (default: generator)"
    )
    _choice(parser, "--method", METHODS, text, default=METHODS[0])
    base.folder(parser, "--to", "write each changed image there (NAME.png)")
    base.json(parser, "a line for each image")


def _epsilon(name: str, value) -> float:
    """0, which changes nothing, or a whole step and more: less is lost where an image is saved."""
    return options.number(name, value, high=MOST) and options.number(name, value, low=1, high=MOST)


def _choice(parser, name: str, allowed: tuple[str, ...], text: str, **settings) -> None:
    check = partial(options.one_of, allowed=allowed)
    base.option(parser, name, check, metavar="|".join(allowed), help=text, **settings)


def attack(arguments) -> int:
    """Change photos slightly so that the networks that come with voclab give another answer."""
    from voclab.app import predict as predicting
    from voclab.data.listing import counted, shown

    _require_goal(arguments)
    victim = _victim(arguments)
    files, notes = predicting.photos(arguments.images)
    targets: list[tuple[Path, ...]] = []
    if arguments.to:
        targets = predicting.targets(files, arguments.to, arguments.images, (".png",), _MARK)
    for file, (target,) in zip(files, targets):
        if target.stem != file.stem:
            notes.append(f"What is made of {shown(file)} is {shown(target)}: its name is taken, or too long.")
    for note in notes:
        tell(note)

    start_keras()
    from voclab.app import attack as attacking

    wanted = arguments.epsilon, arguments.goal or "untargeted", arguments.class_name
    run = attacking.open_attacking(arguments.method, victim, *wanted)
    found, fooled, changed, failed = [], 0, 0, []
    for number, outcome in one_by_one(files, run, failed):
        if targets:
            attacking.write(outcome, targets[number][0], _MARK)
        fooled += bool(outcome.fooled)
        changed += bool(outcome.visible["linf"])
        written = {"image": shown(targets[number][0])} if targets else {}
        found.append({"file": shown(files[number]), **outcome.as_dict(), "files": written})
        if not arguments.json:
            say(f"{in_a_line(files[number])}: {outcome.text()}", flush=True)
    if arguments.json:
        described = {name: getattr(arguments, name) for name in ("method", "epsilon", "goal")}
        described |= {"victim": victim, "class": arguments.class_name}
        say(json.dumps({**described, "images": found, "failed": failed}, indent=1))
    if found:
        fooling = "" if victim == "segmenter" else f" and fooled the classifier on {fooled}"
        where = f"; the changed images are in {shown(arguments.to)}" if targets else ""
        tell(f"{arguments.method} changed {changed} of {counted(len(found), 'image')}{fooling}{where}")
    return 2 if failed else 0


def _victim(arguments) -> str:
    """The victim that is meant, once it is clear that this method can be run on it."""
    from voclab.models import ready

    follows = arguments.method in _FOLLOW_A_GRADIENT
    victim = arguments.victim or ("classifier" if follows else "both")
    if follows and victim == "both":
        raise VoclabError(
            f"{arguments.method} follows the gradient of one network; choose --victim classifier or"
            " segmenter."
        )
    if arguments.method == "generator":
        ready.require_victim(ready.CLASSIFIER)  # that it is missing is said before Keras is imported
    return victim


def _require_goal(arguments) -> None:
    from voclab.models import ready

    if (arguments.goal is None) != (arguments.class_name is None):
        raise VoclabError("--goal and --class belong together, e.g. --goal vanish --class person.")
    if arguments.goal and arguments.method == "noise":
        raise VoclabError("Noise has no goal; leave --goal out, or choose another --method.")
    if arguments.class_name is not None:
        options.one_of("class", arguments.class_name, ready.card()["class_names"])
