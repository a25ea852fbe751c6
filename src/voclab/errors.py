"""The one error type for problems that the user can mend."""

from voclab.text import plain


class VoclabError(Exception):
    """One sentence that names the file or option at fault and says what to do about it.

    The command line prints it and exits with status 2; everything else is a bug of ours and
    keeps its traceback.
    """

    def __str__(self) -> str:
        # Tracebacks in notebooks and terminals show it too, and it names files and classes.
        return plain(super().__str__())


def first_line(error: BaseException) -> str:
    """What an error of another library says, short enough for a sentence of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
