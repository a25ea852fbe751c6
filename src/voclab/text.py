"""Names of classes, files and runs as text: what each medium needs so that nothing else comes of them."""

import re
from html import escape, unescape

# What moves a terminal's cursor, turns the direction of writing, ends a line in some media only, or is no
# character at all: an undecodable byte of a file name is half of a pair of surrogates in Python.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_PUNCTUATION = r"[!-/:-@\[-`{-~]"


def plain(text: object) -> str:
    """Text for terminals: control characters and what cannot be encoded as ``\\u001b``; lines and tabs stay.

    JSON stays JSON.
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def markdown(text: object) -> str:
    """Text that Markdown, with tables and formulas, shows as it is, on one line."""
    line = escape(" ".join(plain(text).split()), quote=False)
    line = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", line)
    # At the beginning of a line these would make a list, or a heading of the line before.
    return re.sub(r"^(\d{1,9}(?=[.)](?: |$))|(?=[-+](?: |$)|[-=]+$))", r"\1\\", line)


def from_markdown(text: str) -> str:
    """What :func:`markdown` was given, with its white space made one."""
    return unescape(re.sub(rf"\\({_PUNCTUATION})", r"\1", text))


def html(text: object) -> str:
    """Text inside an element of HTML or between the quotes of an attribute."""
    return escape(plain(text), quote=True)
