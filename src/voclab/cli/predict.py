"""``voclab predict``: what is in photos, and where."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from voclab.cli import base
from voclab.errors import VoclabError
from voclab.terminal import say, tell, tell_in_place


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "predict", predict)
    base.option(parser, "images", nargs="+", metavar="IMAGE", help="an image, or a folder of images")
    text = "write a label map (NAME.png) and an overlay (NAME_overlay.jpg) of each image there"
    base.folder(parser, "--to", text)
    text = (
        "a run's folder, a .keras file, or a folder that `voclab export --to litert` wrote (default: ready,"
        " which comes with voclab)"
    )
    base.option(parser, "--model", metavar="MODEL", help=text)
    base.json(parser, "a line for each image")


def predict(arguments) -> int:
    """Say what is in photos, and where."""
    from voclab.app import predict as predicting
    from voclab.data.listing import counted, shown

    files, notes = predicting.photos(arguments.images)
    pairs = predicting.targets(files, arguments.to, arguments.images) if arguments.to else []
    answering = predicting.open_answering(arguments.model)
    if pairs and not answering.places:
        raise VoclabError(f"{answering.name} says nothing of places; leave --to out, or name a segmenter.")
    for file, (mask, _) in zip(files, pairs):
        if mask.stem != file.stem:
            notes.append(f"The label map of {shown(file)} is {shown(mask)}: its name is taken, or too long.")
    for note in notes:
        tell(note)
    answered, answers, failed = 0, [], []
    began = time.perf_counter()
    for number, prediction in one_by_one(files, partial(predicting.predict, answering), failed):
        if pairs:
            predicting.write(prediction, pairs[number])
        answered += 1
        if arguments.json:
            written = dict(zip(("mask", "overlay"), map(shown, pairs[number]))) if pairs else {}
            answers.append({"file": shown(files[number]), **prediction.as_dict(), "files": written})
        else:
            say(f"{in_a_line(files[number])}: {prediction.text()}", flush=True)
    if arguments.json:
        described = {"model": answering.name, "runtime": answering.runtime}
        say(json.dumps({**described, "images": answers, "failed": failed}, indent=1))
    if answered:
        each = 1000 * (time.perf_counter() - began) / len(files)
        where = f"; label maps and overlays are in {shown(arguments.to)}" if pairs else ""
        tell(f"{answering.runtime} answered {counted(answered, 'image')}, {each:.0f} ms each{where}")
    return 2 if failed else 0


def one_by_one(
    files: Sequence[Path], look: Callable, failed: list[dict[str, str]]
) -> Iterator[tuple[int, Any]]:
    """(number, what ``look`` finds) of each file; one that cannot be answered is named, and noted."""
    from voclab.data.listing import shown

    began = time.perf_counter()
    for number, file in enumerate(files):
        _progress(number, len(files), time.perf_counter() - began)
        try:
            found = look(file)
        except VoclabError as error:  # one damaged image among many
            tell_in_place("")
            tell(f"voclab: {error}")
            failed.append({"file": shown(file), "error": str(error)})
            continue
        tell_in_place("")
        yield number, found


def in_a_line(file: Path) -> str:
    """The name of a file, whatever is in it, on one line."""
    from voclab.data.listing import shown

    return shown(file).replace("\n", "\\n")


def _progress(done: int, total: int, seconds: float) -> None:
    """On a terminal, how far it is and how long it will take."""
    if done:
        left = seconds / done * (total - done)
        tell_in_place(f"{done} of {total} images, about {left:.0f} s left")
