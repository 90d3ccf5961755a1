"""``python -m agent``: the same as ``fleetlog agent``."""

import sys

from agent.main import main

sys.exit(main(sys.argv[1:]))
