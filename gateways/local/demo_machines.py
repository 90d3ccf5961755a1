"""The machines that `fleetlog demo --keep` leaves behind: who they are, where, and what they tell of themselves.

They are made up, but the same each time; nothing of them is written anywhere but by what they say over the wire.
"""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain.agents import MachineType, Platform

VERSION = "0.1.0"
GIB = 1024**3
SEED = 7
NEARLY_FULL = 90
"""Percent: a disk beyond it is what `disk-report` complains of."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of machine."""

    role: str
    """Short; it is in the name of each."""
    platform: Platform
    os: str
    os_id: str
    os_version: str
    kernel: str
    type: MachineType = MachineType.SERVER
    arch: str = "x86_64"
    cpu: str = "Intel(R) Xeon(R) Silver 4310 CPU @ 2.10GHz"
    cores: int = 4
    memory_gib: int = 16
    disk_gib: int = 256
    tags: tuple[str, ...]


def _linux(role: str, os: str, version: str, kernel: str, *tags: str, **more: Any) -> Model:
    return Model(
        role=role, platform=Platform.LINUX, os=os, os_id=os.partition(" ")[0].lower(), os_version=version,
        kernel=kernel, tags=tags, **more,
    )  # fmt: skip


def _desk(role: str, *tags: str, **more: Any) -> Model:
    given: dict[str, Any] = {
        "os": "Windows 11 Pro 23H2", "os_version": "10.0.22631", "kernel": "10", "cpu": "Intel(R) Core(TM) i5-13500",
    } | more  # fmt: skip
    return Model(
        role=role, platform=Platform.WINDOWS, os_id="windows", type=MachineType.WORKSTATION, tags=tags, **given
    )


def _mac(role: str, *tags: str) -> Model:
    return Model(
        role=role, platform=Platform.MACOS, os="macOS 14.5", os_id="macos", os_version="14.5", kernel="23.5.0",
        type=MachineType.WORKSTATION, arch="aarch64", cpu="Apple M2", cores=8, tags=tags,
    )  # fmt: skip


OLD_WEB = _linux("web", "Ubuntu 20.04.6 LTS", "20.04", "5.4.0-182-generic", "web", "prod")
NEW_WEB = _linux("web", "Ubuntu 24.04 LTS", "24.04", "6.8.0-35-generic", "web", "prod")
DATABASE = _linux(
    "db", "Debian GNU/Linux 12 (bookworm)", "12", "6.1.0-21-amd64", "db", "prod", memory_gib=64, disk_gib=1024
)
FILES = _linux("files", "Debian GNU/Linux 12 (bookworm)", "12", "6.1.0-21-amd64", "files", "backup", disk_gib=4096)
WINDOWS_SERVER = Model(
    role="dc", platform=Platform.WINDOWS, os="Windows Server 2022 Standard", os_id="windows", os_version="10.0.20348",
    kernel="10", memory_gib=32, disk_gib=512, tags=("domain", "prod"),
)  # fmt: skip
DESK = _desk("desk", "office")
LAPTOP = _desk("lap", "office", "laptop", cpu="13th Gen Intel(R) Core(TM) i7-1365U")
OLD_DESK = _desk("desk", "office", "replace", os="Windows 10 Pro 22H2", os_version="10.0.19045")
MAC = _mac("mac", "office", "laptop")
SCANNER = _linux(
    "gate", "Raspbian GNU/Linux 11 (bullseye)", "11", "6.1.21-v8+", "kiosk", arch="aarch64", cpu="Cortex-A72",
    memory_gib=4, disk_gib=32,
)  # fmt: skip


class Place(msgspec.Struct, frozen=True):
    """A site, and what stands there: its first machines in this order, and so on from the start of the list's rest."""

    client: str
    site: str
    prefix: str
    once: tuple[Model, ...]
    again: tuple[Model, ...]


PLACES = (
    Place("Kestrel Logistics", "Head office", "kl-ho", (OLD_WEB, NEW_WEB, DATABASE), (DESK, LAPTOP, OLD_DESK, MAC)),
    Place("Kestrel Logistics", "Rotterdam depot", "kl-rtm", (OLD_WEB, NEW_WEB, FILES), (SCANNER, DESK, NEW_WEB)),
    Place("Kestrel Logistics", "Antwerp depot", "kl-anr", (OLD_WEB, NEW_WEB, DATABASE), (SCANNER, OLD_DESK, OLD_WEB)),
    Place("Harbour Dental", "Bristol", "hd-bri", (WINDOWS_SERVER, FILES), (DESK, DESK, OLD_DESK)),
    Place("Harbour Dental", "Cardiff", "hd-cdf", (WINDOWS_SERVER,), (DESK, OLD_DESK, LAPTOP)),
    Place("Linden School", "Main campus", "ls-main", (DATABASE, FILES), (LAPTOP, MAC, DESK, DESK)),
    Place("Linden School", "North campus", "ls-north", (FILES,), (LAPTOP, DESK)),
    Place("Oakfield Law", "London", "ol-lon", (WINDOWS_SERVER, DATABASE), (MAC, LAPTOP, LAPTOP)),
    Place("Oakfield Law", "Leeds", "ol-lds", (FILES,), (MAC, LAPTOP)),
)
PEOPLE = ("j.barnes", "m.okafor", "s.lindqvist", "t.nowak", "r.haddad", "e.moreau", "k.ito", "p.silva")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    name: str
    place: Place
    model: Model
    number: int
    used_percent: int
    user: str | None

    @property
    def is_server(self) -> bool:
        return self.model.type is MachineType.SERVER

    @property
    def address(self) -> str:
        return f"10.{20 + PLACES.index(self.place)}.{self.number // 200}.{10 + self.number % 200}"

    def facts(self, now: datetime) -> dict[str, Any]:
        """What its agent would gather.

        Args:
            now: with a zone.
        """
        model, windows = self.model, self.model.platform is Platform.WINDOWS
        return {
            "hostname": self.name,
            "os": model.os,
            "os_id": model.os_id,
            "os_version": model.os_version,
            "machine_type": model.type.value,
            "timezone": "Europe/London",
            "utc_offset_minutes": 0,
            "kernel": model.kernel,
            "arch": model.arch,
            "cpu": {"model": model.cpu, "cores": model.cores, "threads": model.cores * 2},
            "memory_bytes": model.memory_gib * GIB,
            "swap_bytes": 2 * GIB,
            "disks": [
                {
                    "mount": "C:\\" if windows else "/",
                    "device": "C:\\" if windows else "/dev/sda1",
                    "type": {"windows": "NTFS", "macos": "apfs"}.get(model.platform, "ext4"),
                    "size_bytes": model.disk_gib * GIB,
                    "used_percent": self.used_percent,
                }
            ],
            "addresses": [
                {"interface": "Ethernet" if windows else "eth0", "family": "ipv4", "address": self.address},
            ],
            "users": [self.user] if self.user else [],
            "logged_in_user": self.user,
            "boot_time": (now - timedelta(hours=self.number * 7 + 3)).replace(second=0, microsecond=0).isoformat(),
            "agent_version": VERSION,
            "agent_user": "SYSTEM" if windows else "root",
        }


def machines(count: int) -> Sequence[Machine]:
    """The fleet.

    Args:
        count: how many; each place has its share, and its servers come first.
    """
    choice = random.Random(SEED)  # noqa: S311 -- to be the same each time, not to be secret
    made: list[Machine] = []
    named: dict[str, int] = {}
    for number in range(count):
        place, nth = PLACES[number % len(PLACES)], number // len(PLACES)
        model = place.once[nth] if nth < len(place.once) else place.again[(nth - len(place.once)) % len(place.again)]
        stem = f"{place.prefix}-{model.role}"
        named[stem] = named.get(stem, 0) + 1
        at_desk = model.type is MachineType.WORKSTATION
        made.append(
            Machine(
                name=f"{stem}{named[stem]:02d}",
                place=place,
                model=model,
                number=number,
                used_percent=NEARLY_FULL + 5 if number % 11 == 10 else choice.randrange(20, NEARLY_FULL, 5),  # noqa: PLR2004
                user=choice.choice(PEOPLE) if at_desk else None,
            )
        )
    return made


def away(fleet: Sequence[Machine]) -> Sequence[Machine]:
    """Those that are switched off: a tenth, and none of them a server."""
    choice = random.Random(SEED)  # noqa: S311 -- as above
    return choice.sample([one for one in fleet if not one.is_server], round(len(fleet) / 10))
