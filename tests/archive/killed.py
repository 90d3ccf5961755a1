"""A run of the archive that is killed after a step, as by the loss of power. Called with database, step and folder."""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from command_bus.archiving import archive


def die_after(wanted: str, done: str) -> None:
    if done == wanted:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    url, step, folder = sys.argv[1:]
    archive(
        url,
        timedelta(0),
        Path(folder) if folder else None,
        segment_streams=40,
        step=lambda done: die_after(step, done),
    )
