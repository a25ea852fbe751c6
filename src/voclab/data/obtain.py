"""The data of a notebook: what is named or found, and downloaded where it has to be real and is not there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from voclab.data import DRAWN, Found, fetch, find
from voclab.errors import VoclabError
from voclab.terminal import say as to_terminal


def obtain(
    data: str | None,
    base: Path,
    *,
    single_label: bool = False,
    unasked: bool = False,
    say: Callable[[str], None] = to_terminal,
) -> Found:
    """What :func:`voclab.data.find` finds; VOC 2009 and CIFAR-10 are downloaded where they are missing.

    Args:
        data: a name, a folder, or ``None``.
        base: the project's data folder; downloads go there.
        single_label: whether CIFAR-10 is wanted and not VOC 2009.
        unasked: download also where nothing is named and nothing is there. If no address answers, ``say``
            hears of it, and the drawn images are taken.
        say: takes a line: the size before a download, and each address that fails.

    Raises:
        VoclabError: what is named is neither there nor to be had, or is no layout that can be read.
    """
    real = "cifar10" if single_label else "voc2009"
    try:
        found = find(data, base=base, single_label=single_label)
    except VoclabError:
        if data != real:
            raise
        found = None
    if found and not (unasked and data is None and found.name in DRAWN):
        return found
    try:
        fetch.fetch(fetch.ARCHIVES[real], base, say)
    except fetch.NoAddressAnswers as error:
        if found is None:
            raise
        say(f"Going on with the drawn images of {DRAWN[found.name]}: {error}")
        return found
    asked = "no data was named" if data is None else f"{real} was named"
    there = find(real, base=base)
    return replace(there, why=f"{asked}, and {there.root} holds what was downloaded")
