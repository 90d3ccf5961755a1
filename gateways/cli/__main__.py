"""``python -m gateways.cli``: the program where the ``fleetlog`` command is not installed."""

import sys

from gateways.cli import main

if __name__ == "__main__":
    sys.exit(main())
