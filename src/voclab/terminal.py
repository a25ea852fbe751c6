"""What the package prints: one way to the terminal, so that no name of a file or class commands it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from voclab.files import writing_error
from voclab.text import plain


def say(*values: object, end: str = "\n", flush: bool = False) -> None:
    """Print to standard output.

    Raises:
        VoclabError: it cannot be written, e.g. on a full disk. BrokenPipeError: nobody reads it any more.
    """
    try:
        print(*map(plain, values), end=end, flush=flush)
    except OSError as error:
        raise _stated(error) from None


def tell(*values: object, end: str = "\n") -> None:
    """Print to standard error, at once; where that is full or closed, the work goes on unseen."""
    try:
        print(*map(plain, values), end=end, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def tell_in_place(line: str) -> None:
    """Replace the line of standard error that the cursor is in, on a terminal; elsewhere do nothing."""
    if not sys.stderr.isatty():
        return
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: the terminal does not say
        # A longer line would wrap, and only the last part of it could be replaced.
        print(f"\r{plain(line)[: columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


@contextmanager
def quiet() -> Iterator[None]:
    """Within, standard error leads nowhere, for libraries in C++ too; what they raise is raised as ever."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def prepare() -> None:
    """Make standard output and error fit to take any text, also those that are closed or know few letters."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened, maybe a result, would take what is printed
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for good
        if hasattr(getattr(sys, name), "reconfigure"):  # not in a notebook
            getattr(sys, name).reconfigure(errors="backslashreplace")


def finish() -> None:
    """Write what is held back, here, where a failure gets its sentence, not when the interpreter ends.

    Raises:
        What :func:`say` raises.
    """
    try:
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence(sys.stdout)
        raise _stated(error) from None


def _silence(stream) -> None:
    """Let a stream that cannot be written lead nowhere, or Python tries once more when it ends."""
    with suppress(OSError):  # it has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _stated(error: OSError) -> Exception:
    return error if isinstance(error, BrokenPipeError) else writing_error("standard output", error)
