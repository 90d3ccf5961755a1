"""What is installed on the machines of the demonstration: a few of the packages that such machines have."""

from domain.agents import Platform
from gateways.local.demo_machines import Machine
from schema.software import Package, SoftwareList, listed

_DEBIAN = (
    ("adduser", "3.134", ""), ("apt", "2.6.1", ""), ("base-files", "12.4+deb12u10", "12.4+deb12u11"),
    ("bash", "5.2.15-2+b8", ""), ("ca-certificates", "20230311", ""), ("coreutils", "9.1-1", ""),
    ("cron", "3.0pl1-162", ""), ("curl", "7.88.1-10+deb12u8", "7.88.1-10+deb12u12"), ("dpkg", "1.21.22", ""),
    ("gnupg", "2.2.40-1.1", ""), ("libc6", "2.36-9+deb12u9", "2.36-9+deb12u10"), ("libssl3", "3.0.15-1~deb12u1", ""),
    ("openssh-server", "1:9.2p1-2+deb12u3", "1:9.2p1-2+deb12u5"), ("openssl", "3.0.15-1~deb12u1", ""),
    ("python3", "3.11.2-1+b1", ""), ("rsync", "3.2.7-1+deb12u2", ""), ("sudo", "1.9.13p3-1+deb12u1", ""),
    ("systemd", "252.33-1~deb12u1", "252.38-1~deb12u1"), ("tzdata", "2024b-0+deb12u1", "2025b-0+deb12u1"),
    ("util-linux", "2.38.1-5+deb12u3", ""), ("vim-tiny", "2:9.0.1378-2", ""), ("zlib1g", "1:1.2.13.dfsg-1", ""),
)  # fmt: skip
_SECURITY = frozenset({"libc6", "openssh-server", "curl", "nginx", "postgresql-15", "KB5046633"})
_ROLES = {
    "web": (("nginx", "1.22.1-9+deb12u1", "1.22.1-9+deb12u2"), ("certbot", "2.1.0-4", ""), ("php8.2-fpm", "8.2", "")),
    "db": (("postgresql-15", "15.10-0+deb12u1", "15.13-0+deb12u1"), ("pgbouncer", "1.18.0-1+b1", "")),
    "files": (("samba", "2:4.17.12+dfsg-0+deb12u1", ""), ("zfsutils-linux", "2.1.11-1", ""), ("borgbackup", "1.2", "")),
    "gate": (("chromium", "131.0.6778.139-1~deb12u1", ""), ("unclutter", "8-25", "")),
}  # fmt: skip
_WINDOWS = (
    ("7-Zip 24.08 (x64)", "24.08"), ("Google Chrome", "131.0.6778.109"), ("Microsoft 365 Apps", "16.0.18129.20158"),
    ("Microsoft Edge", "131.0.2903.86"), ("Microsoft Visual C++ 2015-2022 Redistributable (x64)", "14.40.33810.0"),
    ("Mozilla Firefox (x64 en-GB)", "133.0"), ("Notepad++ (64-bit x64)", "8.7.1"), ("VLC media player", "3.0.21"),
)  # fmt: skip
_WINDOWS_UPDATES = (
    ("2024-11 Cumulative Update for Windows (KB5046633)", "KB5046633"),
    ("Windows Malicious Software Removal Tool x64 - v5.130 (KB890830)", "KB890830"),
)
_MAC = (
    ("1Password", "8.10.56"), ("Google Chrome", "131.0.6778.109"), ("Keynote", "14.3"), ("Numbers", "14.3"),
    ("Pages", "14.3"), ("Safari", "17.5"), ("Slack", "4.41.105"), ("zoom.us", "6.2.11"),
)  # fmt: skip
_UP_TO_DATE_EVERY = 3


def software_of(machine: Machine) -> SoftwareList:
    """What its agent would find; a third of the machines are up to date."""
    current = machine.number % _UP_TO_DATE_EVERY == 0
    match machine.model.platform:
        case Platform.WINDOWS:
            found = [Package(name, version, "", "registry") for name, version in _WINDOWS]
            offered = [] if current else _WINDOWS_UPDATES
            found += [
                Package(title, "", "", "windows_update", number, number in _SECURITY) for title, number in offered
            ]
        case Platform.MACOS:
            found = [Package(name, version, "", "app") for name, version in _MAC]
        case _:
            arch = {"x86_64": "amd64", "aarch64": "arm64"}[machine.model.arch]
            found = [
                Package(name, update or version, arch, "dpkg")
                if current
                else Package(name, version, arch, "dpkg", update, bool(update) and name in _SECURITY)
                for name, version, update in (*_DEBIAN, *_ROLES.get(machine.model.role, ()))
            ]
    return listed(found, updates_known=True)
