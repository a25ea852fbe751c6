"""What options and parameters may be: one sentence for each that is wrong, before anything heavy is imported.

Each check is called as ``check(name, value)`` with the name as the user knows it (``--seed``, ``seed``) and a
text that was typed or a value of a notebook or a file; it returns the value as it is used from then on.
"""

import math
import os
import re
from collections.abc import Collection
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from voclab.errors import VoclabError

MOST_IMAGES = 1_000_000
_LONGEST = 80  # letters of a wrong value that are repeated


def whole(name: str, value: Any, low: int = 0, high: int = MOST_IMAGES) -> int:
    """A whole number from ``low`` to ``high``; 20.0 is one, ``True`` is none."""
    found = _number(value)
    if not (math.isfinite(found) and found == int(found) and low <= found <= high):
        raise _wrong(name, shown(value), f"choose a whole number, {low} or more and at most {high}")
    return int(found)


def number(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number from ``low`` to ``high``."""
    found = _number(value)
    if not (math.isfinite(found) and low <= found <= high):
        raise _wrong(name, shown(value), f"choose a number, {low:g} or more{_at_most(high)}")
    return found


def positive(name: str, value: Any, high: float = math.inf) -> float:
    """A finite number above 0."""
    found = _number(value)
    if not (math.isfinite(found) and 0 < found <= high):
        raise _wrong(name, shown(value), f"choose a number above 0{_at_most(high)}")
    return found


count = partial(whole, low=1)
side = partial(whole, low=8, high=4096)  # of an image that a network is shown, pixels
seed = partial(whole, low=0, high=2**32 - 1)  # as NumPy and Keras take it
# Of an attack in steps of 1/255; below one step, nothing is left after rounding to 8 bits.
bound = partial(number, low=1, high=255)


def one_of(name: str, value: Any, allowed: Collection[str]) -> str:
    """One of some names."""
    if not isinstance(value, str) or value not in allowed:
        what = name.lstrip("-")
        raise VoclabError(f"There is no {what} {shown(value, True)}; choose one of {', '.join(allowed)}.")
    return value


def text(name: str, value: Any) -> str:
    """A name or a path: some text, in which no file name is cut short by a NUL."""
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _wrong(name, shown(value, True), "give a name or a path, or leave it out")
    return value


def own_folder(name: str, value: Any) -> str:
    """The name of a folder that is made below another one."""
    path = Path(text(name, value))
    if path.is_absolute() or ".." in path.parts or path == Path():
        raise _wrong(name, shown(value, True), "give the name of a folder, such as first-try")
    return value


def target_folder(name: str, value: Any) -> Path:
    """A folder that can be written into, or can be made."""
    path = Path(text(name, value))
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise _wrong(name, path, f"but {there} is a file; name a folder", ", ")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _wrong(name, path, f"but {there} cannot be written to; name another folder", ", ")
    return path


def target_file(name: str, value: Any) -> Path:
    """A file that can be written, or can be made with its folder."""
    path = Path(text(name, value))
    if path.is_dir():
        raise _wrong(name, path, f"which is a folder; name a file, such as {path / 'new'}", ", ")
    target_folder(name, path.parent)
    return path


def shown(value: Any, quoted: bool = False) -> str:
    """A wrong value as a message repeats it: on one line, not too long, quoted where it is no plain word."""
    plain = isinstance(value, str) and re.fullmatch(r"[\w.+-]+", value) and not quoted
    found = value if plain else repr(value)
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]}…"


def _wrong(name: str, value: object, remedy: str, joint: str = "; ") -> VoclabError:
    return VoclabError(f"{name} is {value}{joint}{remedy}.")


def _at_most(high: float) -> str:
    return "" if math.isinf(high) else f" and at most {high:g}"


def _number(value: Any) -> float:
    """The number that was typed or given; NaN, which is in no range, if it is none."""
    if isinstance(value, bool) or not isinstance(value, str | Real):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan
    except OverflowError:  # a whole number that no float holds
        return math.inf
