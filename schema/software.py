"""What is installed on a machine, as its agent tells it: one list, named by the SHA-256 of its packed form."""

import hashlib
import zlib
from collections.abc import Iterable
from typing import Annotated

import msgspec

MAX_PACKAGES = 20_000
"""In one list; what an agent finds beyond that it leaves out, the last by name."""
MAX_TEXT = 200
"""Characters of a name or a version."""
MAX_PACKED_BYTES = 8 * 1024 * 1024
"""Of the list before it is compressed."""


class Package(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One thing that is installed, or an update of the system that could be (then its ``version`` is empty)."""

    name: str
    version: str
    arch: str = ""
    source: str = ""
    """What installed it, or offers it: ``dpkg``, ``rpm``, ``pacman``, ``apk``, ``app``, ``registry`` and so on."""
    update: str = ""
    """The version that could be installed in its place; empty where there is none that the machine knows of."""
    security: bool = False
    """Whoever offers that update says that it is for security."""


class SoftwareList(msgspec.Struct, frozen=True):
    """All of it, in order."""

    packages: Annotated[list[Package], msgspec.Meta(max_length=MAX_PACKAGES)]
    updates_known: bool
    """Whether the machine could say what could be updated: where it could not, no ``update`` does not mean that there
    is none."""


class BadSoftwareError(ValueError):
    """It is no list of software, or a larger one than is allowed."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SoftwareList).decode


def listed(packages: Iterable[Package], *, updates_known: bool) -> SoftwareList:
    """A list as it may be sent: in order, without doubles, within bounds."""
    cut = {
        Package(
            _line(one.name), _line(one.version), _line(one.arch), _line(one.source), _line(one.update), one.security
        )
        for one in packages
    }
    return SoftwareList(sorted(one for one in cut if one.name)[:MAX_PACKAGES], updates_known)


def pack(software: SoftwareList) -> bytes:
    """As it is sent and kept: compressed msgpack."""
    return zlib.compress(_encode(software), 6)


def fitted(software: SoftwareList, most_bytes: int) -> bytes:
    """As `pack`; of a list that would be larger, the first by name that fit."""
    packed = pack(software)
    while len(packed) > most_bytes and software.packages:
        software = SoftwareList(software.packages[: len(software.packages) * 9 // 10], software.updates_known)
        packed = pack(software)
    return packed


def digest(software: SoftwareList) -> str:
    """SHA-256 of its msgpack, in hex: of two lists, the same is the same."""
    return hashlib.sha256(_encode(software)).hexdigest()


def unpack(data: bytes) -> SoftwareList:
    """Read a list that somebody sent.

    Raises:
        BadSoftwareError: it is none, is larger than allowed, or is not as `listed` makes them.
    """
    reader = zlib.decompressobj()
    try:
        raw = reader.decompress(data, MAX_PACKED_BYTES)
        if reader.unconsumed_tail or not reader.eof:
            raise BadSoftwareError(f"software: at most {MAX_PACKED_BYTES} bytes, and whole.")
        software = _decode(raw)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadSoftwareError(f"software: not a list of packages: {error}") from error
    if software != listed(software.packages, updates_known=software.updates_known):
        raise BadSoftwareError(
            f"software: at most {MAX_PACKAGES} packages, in order and without doubles, names and versions printable "
            f"and of {MAX_TEXT} characters at the most."
        )
    return software


def read(packed: bytes) -> SoftwareList:
    """A list that `pack` made and nobody had in hand since."""
    return _decode(zlib.decompress(packed))


def versions(software: SoftwareList) -> dict[str, str]:
    """What is installed, from name to version; names tell architectures and installers apart where one does not."""
    several: dict[str, list[Package]] = {}
    for one in software.packages:
        if one.version or not one.update:
            several.setdefault(one.name, []).append(one)
    found: dict[str, str] = {}
    for name, packages in several.items():
        alike = len({(one.arch, one.source) for one in packages}) == 1
        for one in packages:
            full = name if alike else f"{name} ({', '.join(part for part in (one.arch, one.source) if part)})"
            found[full] = f"{found[full]}, {one.version}" if full in found else one.version
    return found


def _line(text: str) -> str:
    """One line of printable text."""
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * MAX_TEXT])
    return " ".join(shown.split())[:MAX_TEXT].rstrip()
