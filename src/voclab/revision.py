"""Which commit of the package is running."""

import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).parent


def git_revision() -> str:
    """The last commit that changed the package: what a repeated run on the same code gives again."""
    command = ["git", "log", "-1", "--format=%h", "--", str(_PACKAGE)]
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_PACKAGE)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return out.stdout.strip() or "unknown"
