"""Letters of figures: each text is drawn as it stands, in fonts that have its letters."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

import pandas as pd
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from voclab.text import plain

_LONGEST, _CUT = 80, 40  # letters of a line: with longer ones nothing is left of a figure but these
FONT = "DejaVu Sans"  # comes with matplotlib, so that texts look alike everywhere
_INVISIBLE = "[\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]"  # joins others, or chooses their form
_SHOWN = "\u200b"  # before an underscore, for matplotlib leaves labels that begin with one out of legends


def lettered(value):
    """(what can be drawn for ``value``, the families of fonts to draw it in, the usual one first).

    Args:
        value: text, or mappings, sequences and tables with texts anywhere in them; all else stays as it is.

    Returns:
        The same with its texts changed where they must be: control characters as escapes, letters that no
        font here has as their code points, e.g. ``U+732B``, and lines for which no figure has room cut.
    """
    short = _shortened(_texts(value))
    letters = frozenset(letter for text in _texts(value) for letter in plain(text) if letter > "~")
    families, missing = _fonts(letters - _usual_letters())
    return _changed(value, lambda text: _drawable(short.get(text, text), missing)), [FONT, *families]


def _shortened(texts: Iterable[str]) -> dict[str, str]:
    """Texts with lines that are too long, and what stands for each: no two alike, for they may be keys."""
    found, times = {}, Counter()
    for text in dict.fromkeys(texts):
        cut = "\n".join(line if len(line) <= _LONGEST else f"{line[:_CUT]}…" for line in text.split("\n"))
        if cut != text:
            times[cut] += 1
            found[text] = cut if times[cut] == 1 else f"{cut} {times[cut]}"
    return found


def _texts(value) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(key)
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
    elif isinstance(value, pd.DataFrame | pd.Series):
        for axis in value.axes:
            yield from _texts(list(axis))


def _changed(value, change):
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_changed(key, change): _changed(entry, change) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        changed = [_changed(entry, change) for entry in value]
        return changed if isinstance(value, list) else tuple(changed)
    if isinstance(value, pd.DataFrame | pd.Series):
        axes = [[_changed(name, change) for name in axis] for axis in value.axes]
        return (
            value.set_axis(axes[0]) if len(axes) == 1 else value.set_axis(axes[0]).set_axis(axes[1], axis=1)
        )
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
