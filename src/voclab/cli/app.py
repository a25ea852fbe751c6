"""``voclab app``: a page in the browser on which networks can be tried."""

import importlib.metadata
from functools import partial

from voclab import options
from voclab.cli import base
from voclab.errors import VoclabError
from voclab.models.ready import CLASSIFIER, SEGMENTER
from voclab.terminal import say, start_keras, tell

_GRADIO = (6, 24)  # the oldest version that has what the page uses
_LOCAL, _EVERYWHERE = "127.0.0.1", "0.0.0.0"


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "app", app)
    text = f"classifier: a run's folder, or a .keras file (default: {CLASSIFIER}, which comes with voclab)"
    base.option(parser, "--model", metavar="RUN", help=text)
    text = f"segmenter, the same (default: {SEGMENTER} beside {CLASSIFIER}, none beside your own)"
    base.option(parser, "--segmenter", metavar="RUN", help=text)
    port = partial(options.whole, low=1, high=65535)
    base.option(
        parser, "--port", port, help="where the page is served (default: the first free one from 7860)"
    )
    text = "let other computers open the page (default: this one only)"
    parser.add_argument("--listen", action="store_true", help=text)


def app(arguments) -> None:
    """Open a page to try networks on photos: classes, places, attacks, perturbations."""
    _require_gradio()
    from voclab.models.saved import model_file

    model, segmenter = arguments.model or CLASSIFIER, arguments.segmenter
    for path in filter(None, (model, segmenter)):
        model_file(path)

    tell("Loading the networks …")
    start_keras()
    from voclab.app import page

    with page.served(page.open_answers(model, segmenter), arguments.port, _host(arguments.listen)) as url:
        say(f"The page is at {url}; Ctrl+C ends it.", flush=True)
        page.wait()


def _host(listen: bool) -> str:
    return _EVERYWHERE if listen else _LOCAL


def _require_gradio() -> None:
    """Say in one sentence what is missing, before anything slow is imported."""
    try:
        version = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError as error:
        raise VoclabError('The page needs Gradio; install it with pip install "voclab[app]".') from error
    if tuple(int(part) for part in version.split(".")[:2]) < _GRADIO:
        raise VoclabError(
            f"The page needs Gradio {'.'.join(map(str, _GRADIO))} or newer, and {version} is installed;"
            ' install it with pip install "voclab[app]".'
        )
