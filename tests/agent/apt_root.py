"""A Debian of its own in a folder: apt and dpkg are the machine's real ones, and touch nothing outside of it."""

import hashlib
import os
import subprocess
from pathlib import Path

_CONF = """\
Dir "{root}";
Dir::State::status "{root}/var/lib/dpkg/status";
Dir::Etc::parts "{root}/none";
Dir::Bin::Methods "/usr/lib/apt/methods";
Dir::Bin::dpkg "/usr/bin/dpkg";
Dpkg::Options {{ "--root={root}"; "--force-not-root"; "--force-script-chrootless"; "--log={root}/dpkg.log"; }};
DPkg::Path "/usr/sbin:/usr/bin:/sbin:/bin";
APT::Architecture "{arch}";
APT::Sandbox::User "root";
Acquire::Languages "none";
APT::Get::AllowUnauthenticated "true";
"""


class AptRoot:
    """An empty Debian, and a repository that it installs from.

    Args:
        root: where both lie.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = root / "repository"
        self.arch = _run(["dpkg", "--print-architecture"]).strip()
        for folder in (
            *("etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial"),
            *("var/cache/apt/archives/partial", "var/lib/dpkg/updates", "var/lib/dpkg/info", "var/lib/dpkg/triggers"),
            *("var/log/apt", "none", "repository"),
        ):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{self.repository} ./\n")
        self.config = root / "apt.conf"
        self.config.write_text(_CONF.format(root=root, arch=self.arch))

    @property
    def environment(self) -> dict[str, str]:
        """In which the machine's programs mean this Debian, and no other."""
        return {
            "APT_CONFIG": str(self.config),
            "DPKG_ROOT": str(self.root),
            "DPKG_ADMINDIR": f"{self.root}/var/lib/dpkg",
        }

    def build(self, name: str, version: str, *, script: str = "", **files: str) -> Path:
        """Make a package with files in /etc, which are its settings.

        Args:
            name: of the package.
            version: of the package.
            script: what it does once it is unpacked.
            files: name and content.
        """
        tree = self.root / "build" / f"{name}_{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
            f"Description: of a test\n"
        )
        (tree / "etc").mkdir()
        for file, content in files.items():
            (tree / "etc" / file).write_text(content)
        (tree / "DEBIAN/conffiles").write_text("".join(f"/etc/{file}\n" for file in files))
        if script:
            (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{script}\n")
            (tree / "DEBIAN/postinst").chmod(0o755)
        made = self.root / "build" / f"{name}_{version}_all.deb"
        _run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(made)])
        return made

    def install(self, made: Path) -> None:
        _run(["dpkg", f"--root={self.root}", "--force-not-root", "--force-script-chrootless", "--install", str(made)])

    def offer(self, *made: Path) -> None:
        """Have the repository offer packages, security ones by the name of its origin."""
        for deb in made:
            (self.repository / deb.name).write_bytes(deb.read_bytes())
        packages = subprocess.run(
            ["dpkg-scanpackages", "--multiversion", "."],
            cwd=self.repository,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        (self.repository / "Packages").write_text(packages)
        digest = hashlib.sha256(packages.encode()).hexdigest()
        (self.repository / "Release").write_text(
            "Origin: Test\nLabel: Test-Security\nSuite: test-security\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
            f"SHA256:\n {digest} {len(packages.encode())} Packages\n"
        )
        _run(["apt-get", "--quiet", "update"], self.environment)

    def version(self, name: str) -> str:
        return _run(["dpkg-query", "--show", "--showformat", "${Version}", name], self.environment)


def _run(argv: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=os.environ | (environment or {}), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout
