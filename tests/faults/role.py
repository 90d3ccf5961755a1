"""A role's process for the fault tests: as `fleetlog serve`, but killed or stopped by its own hand at a named step.

Which step it is may be said while it runs: by a line ``STEP signal`` in the file that is named on the command line.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

from gateways.composition.gateway import build_gateway
from gateways.local import roles
from gateways.local.roles import Role, Service
from gateways.settings import Settings, load_settings


def main(role: str, armed: Path) -> int:
    """Serve one role.

    Args:
        role: its name.
        armed: the file; taken away by whoever acts on it.
    """

    def steps(step: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            wanted, number = armed.read_text().split()
            if wanted == step:
                armed.unlink()
                os.kill(os.getpid(), signal.Signals[number])

    def build(role: Role, settings: Settings) -> Service:
        if role is Role.GATEWAY:
            return build_gateway(settings, steps=steps)
        return roles.build(role, settings)

    return roles.serve([Role(role)], load_settings(), build)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
