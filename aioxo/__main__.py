"""``python -m aioxo`` is ``aioxo``."""

import sys

from aioxo.cli import main

if __name__ == "__main__":
    sys.exit(main())
