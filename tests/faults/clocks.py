"""A wall clock for each process, which a test puts forward or back while the process runs."""

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
DAY_S = 86_400


class Clocks:
    """The clocks of a topology's processes. Where there is no C compiler, they cannot be set.

    Args:
        folder: for the library and the clocks' files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = folder / "clock.so"
        compiler = shutil.which("cc")
        self.there = compiler is not None
        if compiler is not None:
            subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", self._library, SOURCE, "-ldl"], check=True)

    def environment(self, name: str) -> dict[str, str]:
        """What a process has to be started with, so that its clock can be set."""
        if not self.there:
            return {}
        self.set(name, 0)
        return {"LD_PRELOAD": str(self._library), "FAULT_CLOCK": str(self._file(name))}

    def set(self, name: str, seconds: int) -> None:
        """Put a clock so far ahead of the true time, from one moment to the next."""
        if self.there:
            file = self._file(name)
            file.touch(mode=0o644)
            with file.open("r+b") as clock:
                clock.write(struct.pack("=q", seconds))

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.clock"
