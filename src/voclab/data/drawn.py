"""The drawn data sets ToyVOC and ToyCIFAR, which the package :mod:`toyvoc` makes."""

from pathlib import Path

from voclab.errors import VoclabError
from voclab.files import writing_error


def draw(name: str, root: str | Path, **settings) -> Path:
    """Draw ``"toyvoc"`` or ``"toycifar"`` unless the same images are there; returns ``root``.

    Args:
        name: which of them.
        root: their folder.
        settings: of :func:`toyvoc.voc.make_toyvoc` or :func:`toyvoc.cifar.make_toycifar`.

    Raises:
        VoclabError: ``root`` cannot be written, or holds other data.
    """
    from toyvoc.base import ToyError
    from toyvoc.cifar import make_toycifar
    from toyvoc.voc import make_toyvoc

    try:
        return make_toyvoc(root, **settings) if name == "toyvoc" else make_toycifar(root, **settings)
    except ToyError as error:
        raise VoclabError(str(error)) from error
    except OSError as error:
        raise writing_error(error.filename or root, error) from error
