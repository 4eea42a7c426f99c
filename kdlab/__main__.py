"""`python -m kdlab` is `kdlab`."""

import sys

from kdlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
