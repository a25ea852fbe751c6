"""``voclab badges`` and ``voclab gallery``: what shows the results."""

from voclab.cli import base
from voclab.terminal import say


def add(group) -> None:
    """Add the commands to the parser."""
    parser = base.command(group, "badges", badges)
    base.option(parser, "--repo", metavar="OWNER/NAME", help="public address on GitHub (default: none yet)")
    base.option(parser, "--revision", help="what the notebooks install (default: the commit checked out)")
    text = "where badges open the notebooks (default: main)"
    base.option(parser, "--branch", default="main", help=text)
    parser = base.command(group, "gallery", gallery)
    base.option(parser, "--figures", default="figures", help="folder of the figures (default: figures)")
    text = "figures folder of a run on photos, whose charts and tables are copied first; no image is"
    base.option(parser, "--real", metavar="FOLDER", help=text)


def badges(arguments) -> None:
    """Write what opens the notebooks on Colab and Kaggle."""
    from voclab.reporting import badges

    changed = badges.write_badges(arguments.repo, arguments.revision, branch=arguments.branch)
    say("\n".join(map(str, changed)) or "All badges and install cells are as they should be")


def gallery(arguments) -> None:
    """Write the pages of the figures: a first page and one a notebook."""
    from voclab.reporting import gallery

    if arguments.real:
        for folder in gallery.publish(arguments.real, arguments.figures):
            say(f"{folder}: charts and tables")
    for path in gallery.write(arguments.figures):
        say(path)
