"""What the package prints: one way to the terminal, so that no name of a file or class commands it."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from voclab.files import writing_error
from voclab.text import plain

# What TensorFlow, absl and XLA print while they start, whatever the program does: every line of level I,
# and of levels W and E those about a GPU that is not there or is registered twice. Others are kept, also that
# of a GPU whose libraries are missing.
_LOG_PREFIX = r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: %s |%s\d{4} \d\d:\d\d:[\d.]+\s+\d+ )\S+\.cc:\d+\]"
STARTUP_LINE = re.compile(
    "|".join(
        (
            _LOG_PREFIX % ("I", "I"),
            _LOG_PREFIX
            % ("[WE]", "[WE]")
            + " (?:Unable to register cu|failed call to cuInit|Could not find cuda drivers"
            "|computation placer already registered|TF-TRT Warning)",
            r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
            r"To enable the following instructions: .*rebuild TensorFlow with the appropriate compiler flags",
            r"\[IPKernelApp\] WARNING \| Kernel is running over TCP without encryption",
        )
    )
)


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


@contextmanager
def without_startup_notes() -> Iterator[None]:
    """Leave out of standard error what matches :data:`STARTUP_LINE`; the rest of it follows at the end."""
    sys.stderr.flush()
    try:
        file, kept = tempfile.TemporaryFile(), os.dup(2)  # noqa: SIM115 - closed below
    except OSError:  # no disk, or standard error is closed
        yield
        return
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        with file:
            file.seek(0)
            for line in file.read().decode(errors="backslashreplace").splitlines():
                if not STARTUP_LINE.match(line):
                    tell(line)


def start_keras() -> None:
    """Import Keras, and let TensorFlow look for GPUs, without the notes that it writes on every machine."""
    with without_startup_notes():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices()


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
