"""What the package prints: one way to the terminal, so that no name of a file or class commands it."""

import sys

from voclab.files import writing_error
from voclab.text import plain


def say(*values: object, end: str = "\n", flush: bool = False) -> None:
    """Print to standard output.

    Raises:
        VoclabError: it cannot be written, e.g. on a full disk. BrokenPipeError: nobody reads it any more.
    """
    try:
        print(*map(_encodable(sys.stdout), values), end=end, flush=flush)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise writing_error("standard output", error) from error


def tell(*values: object, end: str = "\n") -> None:
    """Print to standard error, at once; where that is full or closed, work goes on unseen."""
    try:
        print(*map(_encodable(sys.stderr), values), end=end, file=sys.stderr, flush=True)
    except OSError:
        pass


def _encodable(stream):
    """A value as text that this stream can encode: cp1252 and ASCII know few letters."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return lambda value: plain(value).encode(encoding, "backslashreplace").decode(encoding)
