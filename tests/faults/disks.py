"""Small disks, which a test fills from one moment to the next. Root alone can make them."""

import os
import shutil
import subprocess
from pathlib import Path

PAGE = 4096


class Disk:
    """A disk of its own for a folder; without the right to mount, the folder is as any other, and cannot be filled.

    Args:
        folder: is made.
        size: bytes, while it is not full.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        folder.mkdir(exist_ok=True)
        self.there = os.geteuid() == 0 and self._mount(f"size={size},mode=0711")

    def _mount(self, options: str) -> bool:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=False)
        return done.returncode == 0

    def fill(self) -> None:
        """From now on not one more page fits."""
        used = shutil.disk_usage(self.folder).used
        # Between the two lines it may have grown; a disk is not made smaller than what is on it.
        for spare in range(0, 4096, 8):
            if self._resize(used + spare * PAGE):
                return
        raise OSError(f"{self.folder} cannot be filled")

    def empty(self) -> None:
        """As much fits as before."""
        self._resize(self._size)

    def _resize(self, size: int) -> bool:
        done = subprocess.run(
            ["mount", "-o", f"remount,size={size}", self.folder], check=False, stderr=subprocess.DEVNULL
        )
        return done.returncode == 0

    def close(self) -> None:
        if self.there:
            # Lazily: whoever still looks at it takes it along.
            subprocess.run(["umount", "-l", self.folder], check=True)
            self.there = False
