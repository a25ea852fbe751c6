"""``voclab export``: a trained network as files for other programs."""

from voclab import options
from voclab.cli import base
from voclab.models.ready import NAMES
from voclab.terminal import say


def add(group) -> None:
    """Add the command to the parser."""
    parser = base.command(group, "export", export)
    base.option(parser, "model", metavar="MODEL", help=f"a run's folder, a .keras file, {' or '.join(NAMES)}")
    base.option(parser, "--to", _format, required=True, metavar="FORMAT", help="savedmodel, onnx or litert")
    base.folder(parser, "--folder", "where the folder of the format goes (default: export, beside the model)")
    base.option(parser, "--size", options.side, help="side of the images in pixels (default: the run's)")


def _format(name: str, value: str) -> str:
    from voclab.app.export import FORMATS

    return options.one_of("format", value, FORMATS)


def export(arguments) -> None:
    """Write a trained network as SavedModel, ONNX or LiteRT."""
    from voclab.app.export import export

    done = export(arguments.model, arguments.to, arguments.folder, arguments.size)
    say(f"{done.folder}: {done.megabytes:.1f} MB; logits differ from Keras' by at most {done.difference:.1g}")
