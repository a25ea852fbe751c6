"""``python -m voclab`` is the command ``voclab``."""

import sys

from voclab.cli import main

if __name__ == "__main__":
    sys.exit(main())
