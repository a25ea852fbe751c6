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


def badges(arguments) -> None:
    """Write what opens the notebooks on Colab and Kaggle."""
    from voclab.reporting import badges

    changed = badges.write_badges(arguments.repo, arguments.revision, branch=arguments.branch)
    say("\n".join(map(str, changed)) or "All badges and install cells are as they should be")


def gallery(arguments) -> None:
    """Write figures/README.md and figures/index.html."""
    from voclab.reporting import gallery

    for path in gallery.write(arguments.figures):
        say(path)
