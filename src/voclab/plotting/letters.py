"""Letters of figures: each text is drawn as it stands, in fonts that have its letters."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pandas as pd
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from voclab.text import plain

_LONGEST, _CUT = 80, 40  # letters of a line: with longer ones nothing is left of a figure but these
FONT = "DejaVu Sans"  # comes with matplotlib, so that texts look alike everywhere
_INVISIBLE = "[\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]"  # joins others, or chooses their form
_SHOWN = "\u200b"  # before an underscore, for matplotlib leaves labels that begin with one out of legends


def lettered(value: Any) -> tuple[Any, list[str]]:
    """(what can be drawn for ``value``, the families of fonts to draw it in, the usual one first).

    Args:
        value: text, or mappings, sequences and tables with texts anywhere in them; all else stays as it is.

    Returns:
        The same with its texts changed where they must be: control characters as escapes, letters that no
        font here has as their code points, e.g. ``U+732B``, and lines for which no figure has room cut.
    """
    texts: dict[str, str] = {}
    _changed(value, lambda text: texts.setdefault(text, text))
    letters = frozenset(letter for text in texts for letter in plain(text) if letter > "~")
    families, missing = _fonts(letters - _usual_letters())
    times = Counter()
    for text in texts:
        short = "\n".join(line if len(line) <= _LONGEST else f"{line[:_CUT]}…" for line in text.split("\n"))
        if short != text:
            times[short] += 1
            # No two alike, for they may be keys.
            short += f" {times[short]}" if times[short] > 1 else ""
        texts[text] = _drawable(short, missing)
    return _changed(value, texts.__getitem__), [FONT, *families]


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """The value with each text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_changed(key, change): _changed(entry, change) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(_changed(entry, change) for entry in value)
    if isinstance(value, pd.DataFrame | pd.Series):
        for number, axis in enumerate(value.axes):
            value = value.set_axis(_changed(list(axis), change), axis=number)
    return value


def _drawable(text: str, missing: frozenset[str]) -> str:
    text = plain(text).replace("\t", " ")
    if missing:
        one = f"[{re.escape(''.join(sorted(missing)))}]"
        text = re.sub(rf"(?<={one}){_INVISIBLE}+|{_INVISIBLE}+(?={one})", "", text)
        text = re.sub(rf"(?<=\w)(?<!{one})(?={one})|(?<={one})(?!{one})(?=\w)", " ", text)
        text = re.sub(f"{one}+", lambda run: " ".join(f"U+{ord(letter):04X}" for letter in run[0]), text)
    return _SHOWN + text if text.startswith("_") else text


@cache
def _usual_letters() -> frozenset[str]:
    """What the usual font has, regular and bold."""
    faces = [font_manager.FontProperties(family=FONT, weight=weight) for weight in ("normal", "bold")]
    have = [FT2Font(font_manager.findfont(face)).get_charmap() for face in faces]
    return frozenset(chr(code) for code in have[0].keys() & have[1].keys())


@cache
def _fonts(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """(families of installed fonts that have these letters, the letters that none has)."""
    families, missing = [], letters
    upright = [f for f in font_manager.fontManager.ttflist if f.style == "normal"]
    # Regular faces before others, and those that were made for many scripts before those of one.
    for entry in sorted(upright, key=lambda f: (f.weight != 400, not f.name.startswith("Noto Sans"), f.name)):
        if not missing:
            break
        # Matplotlib's last resort has a box for each letter.
        if entry.name in families or entry.name.startswith("Last Resort"):
            continue
        try:
            font = FT2Font(entry.fname)
            found = {letter for letter in missing if font.scalable and font.get_char_index(ord(letter))}
        except (OSError, RuntimeError):  # removed since, or a format that only others can draw
            continue
        if found:
            families.append(entry.name)
            missing -= found
    return tuple(families), missing
