"""``voclab run``: execute notebooks."""

from pathlib import Path

from voclab import options
from voclab.cli import base
from voclab.errors import VoclabError
from voclab.experiments.common import PROFILES
from voclab.experiments.parameters import CHECKS, check
from voclab.terminal import say


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "run", run)
    base.option(parser, "notebook", nargs="+", help="their numbers or names, e.g. 01 02, or all")
    base.option(parser, "--profile", help=f"auto, {', '.join(PROFILES)}")
    base.dataset(parser)
    base.option(parser, "--small-images", help="small images by class, for adversarial training (04)")
    base.option(parser, "--weights", help="auto, imagenet, none, or a weights file")
    base.option(parser, "--backbone", help="another backbone for the transfer models")
    base.option(parser, "--seed", help="of everything random (default: 0)")
    base.option(
        parser, "--epsilon", help="bound of notebook 03's main tables and of its defence, in steps of 1/255"
    )
    base.option(parser, "--out", metavar="FOLDER", help="where runs, figures and submissions go")
    base.option(parser, "--notebooks", default="notebooks", help="folder of the notebooks")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--in-place", action="store_true", help="save into the notebook itself (ToyVOC only)")
    text = "save the executed notebook there"
    base.option(target, "--output", options.target_file, metavar="FILE", help=text)


def run(arguments) -> None:
    """Execute notebooks, one after the other."""
    typed = {name: getattr(arguments, name) for name in CHECKS}
    given = check(**{name: value for name, value in typed.items() if value is not None})
    everything = "all" in arguments.notebook
    if arguments.output and (everything or len(arguments.notebook) > 1):
        file = arguments.output
        raise VoclabError(f"Several notebooks cannot be saved in the one file {file}; name one notebook.")
    from voclab.data import EMBEDDED, NAMES, find
    from voclab.reporting import notebooks

    for name in ("data", "small_images"):
        if name in given and given[name] not in (*NAMES, EMBEDDED):  # those may yet have to be downloaded
            find(given[name])
    for name in ("data", "small_images", "weights", "out"):  # the kernel works in another folder
        if name in given and (name == "out" or Path(given[name]).exists()):
            given[name] = str(Path(given[name]).resolve())
    if not everything:  # an unknown name is said before the first one has run
        chosen = [notebooks.find(which, arguments.notebooks).stem for which in arguments.notebook]
    else:
        chosen, data = notebooks.available(arguments.notebooks), arguments.data
        if data not in (None, EMBEDDED):
            kind = data if data in NAMES else find(data).name
            chosen = [which for which in chosen if notebooks.suits(which, kind, arguments.notebooks)]
            say(f"{', '.join(chosen)}: the notebooks that are about data such as {data}")
    for which in chosen:
        places = {"output": arguments.output, "in_place": arguments.in_place}
        written = notebooks.run(which, parameters=given, notebooks_dir=arguments.notebooks, **places)
        say(f"{which}: executed, saved in {written}")
