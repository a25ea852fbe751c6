"""What `voclab sweep` is asked for: what to search, checked before Keras is imported."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voclab import options
from voclab.errors import VoclabError
from voclab.experiments.options import OPTIONS, asked, option

# Trials are compared on the same validation images, by the same figure under the same attack.
_ONE = ("task", "dataset", "victim", "validation", "seed", "epsilon")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included: whole ones, or evenly spread on a log scale."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        typed: options of `voclab train` that all trials have in common, as typed.
        searched: name of an option -> its range or choices.
        config: a run's ``config.json`` for the options that are neither typed nor searched.
    """

    typed: Mapping[str, Any]
    searched: Mapping[str, Range | tuple]
    config: str | Path | None = None

    def asked(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """All options of the trial with these values, see :func:`voclab.experiments.options.asked`."""
        return asked({**self.typed, **chosen}, self.config)

    def first(self) -> dict[str, Any]:
        """All options with the first value of each that is searched."""
        return self.asked({name: _ends(values)[0] for name, values in self.searched.items()})


def plan(typed: Mapping[str, Any], searches: Sequence[str], config: str | Path | None = None) -> Plan:
    """A search from what was typed, with each choice and of each range the ends and a number within checked.

    Args:
        typed: name of an option -> value, ``None`` where nothing was typed.
        searches: texts such as ``learning_rate=1e-4:1e-2:log``, ``dropout=0:0.5`` and ``optimizer=adam,sgd``.
        config: as in :class:`Plan`.

    Raises:
        VoclabError: a text that is none of these, or an option or value that cannot be searched.
    """
    typed = {name: value for name, value in typed.items() if value is not None}
    searched = {}
    for text in searches:
        name, values = _searched(text)
        if name in searched or name in typed:
            raise VoclabError(f"{option(name)} is named twice; either search it or give it one value.")
        searched[name] = values
    found = Plan(typed, searched, config)
    first = {name: _ends(values)[0] for name, values in searched.items()}
    for name, values in searched.items():
        known = [found.asked({**first, name: value})[name] for value in _ends(values)]
        if isinstance(values, Range):  # a width is a number of channels or a factor, as the model has it
            searched[name] = replace(values, whole=all(isinstance(value, int) for value in known))
    within = {name: _within(values) for name, values in searched.items()}
    for name, values in searched.items():
        for value in (within[name], *_ends(values)):
            found.asked({**within, name: value})
    kinds = _ends(searched.get("augmentation", ()))
    if "adversarial" in kinds and len(kinds) > 1:
        raise VoclabError(
            "Adversarial training is scored under attack and the others are not; search each in its own"
            " sweep."
        )
    if found.first()["task"] == "simsiam":
        raise VoclabError(
            "SimSiam has no validation figure that ranks trials; train it with `voclab train`, or search"
            " another --task."
        )
    return found


def _ends(values: Range | tuple) -> tuple:
    return (values.low, values.high) if isinstance(values, Range) else values


def _within(values: Range | tuple) -> Any:
    """A number inside a range, none that is whole by accident; the first of choices."""
    if not isinstance(values, Range):
        return values[0]
    found = values.low + (values.high - values.low) / math.pi
    return int(found) if values.whole else found


def _searched(text: str) -> tuple[str, Range | tuple]:
    name, equals, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    name = "smoothing" if name == "label_smoothing" else name
    if not equals or name not in OPTIONS or name in _ONE:
        known = ", ".join(option(name).lstrip("-") for name in OPTIONS if name not in _ONE)
        raise VoclabError(
            f"--search {options.shown(text)} searches nothing; name one of {known}, then = and"
            " LOW:HIGH, LOW:HIGH:log or choices with commas between."
        )

    def checked(value):
        return OPTIONS[name].check(option(name), value)

    low, colon, high = values.partition(":")
    if not colon:
        choices = tuple(dict.fromkeys(checked(value.strip()) for value in values.split(",")))
        if len(choices) < 2:
            raise VoclabError(
                f"--search {options.shown(text)} is one value; name several, or {option(name)} alone."
            )
        return name, choices
    high, _, scale = high.partition(":")
    ends = [checked(low), checked(high)]
    if not all(isinstance(end, int | float) for end in ends) or scale not in ("", "log"):
        raise VoclabError(
            f"--search {options.shown(text)} is no range; write LOW:HIGH or LOW:HIGH:log in numbers."
        )
    if not (0 if scale else -1) < ends[0] < ends[1]:
        raise VoclabError(
            f"--search {options.shown(text)} begins at {ends[0]:g} and ends at {ends[1]:g}; let it end"
            " above its beginning, which on a log scale is above 0."
        )
    return name, Range(ends[0], ends[1], bool(scale))
