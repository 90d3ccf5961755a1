"""What is installed from PyPI: the wheel, with the dashboard as it was built."""

import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from gateways.dashboard import bundle

ROOT = bundle.HERE.parent.parent


def test_the_wheel_has_the_dashboard(tmp_path: Path) -> None:
    """Every file that was built, and all that its page asks for; none of what it was built from or with."""
    words = (
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    )
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        page = archive.read("gateways/dashboard/static/index.html").decode()
    built = {file.relative_to(ROOT).as_posix() for file in bundle.STATIC.rglob("*") if file.is_file()}
    assert len(built) > 20
    assert built - names - {bundle.STAMP.relative_to(ROOT).as_posix()} == set()
    asked = re.findall(r'(?:src|href)="/(assets/[^"]+)"', page)
    assert {f"gateways/dashboard/static/{one}" for one in asked} <= names
    assert asked
    assert [name for name in names if "node_modules" in name or name.startswith("tests/")] == []


@pytest.mark.parametrize(
    ("version", "serves"),
    [
        ("v20.18.3", False),
        ("v20.19.0", True),
        ("v21.7.3", False),
        ("v22.11.0", False),
        ("v22.12.0\n", True),
        ("v24.1.0", True),
        ("v9.0.0", False),
        ("node: not found", False),
    ],
)
def test_a_node_that_serves_is_told_by_its_version(version: str, *, serves: bool) -> None:
    """What Vite needs: 20.19, or 22.12 and all that is newer; whatever else it prints does not."""
    assert bundle.node_serves(version) is serves
