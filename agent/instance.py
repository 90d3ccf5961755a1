"""Which machine this is, and which run of the program: so the server tells a clone from the machine that it knows."""

import hashlib
import secrets
import socket
from pathlib import Path

import psutil

from schema.wire import Instance

_FIRMWARE = (Path("/sys/class/dmi/id/product_uuid"), Path("/etc/machine-id"))
_DEVICES = Path("/sys/class/net")
_DIGITS = 16


def this_run(state_dir: Path) -> Instance:
    """This run of the program on this machine, on this state directory."""
    return Instance(instance=secrets.token_hex(8), machine=_machine(state_dir), hostname=socket.gethostname())


def _machine(state_dir: Path) -> str:
    """Stays over restarts, and differs in a clone; a hash, so that none of what it is made of is told.

    Hypervisors give each machine an id and a network card of its own, and a copied folder lies elsewhere.
    """
    place = state_dir.stat()
    marks = [str(state_dir.resolve()), str(place.st_ino), *_firmware(), *_cards()]
    return hashlib.sha256("\x00".join(marks).encode()).hexdigest()[:_DIGITS]


def _firmware() -> list[str]:
    found = []
    for file in _FIRMWARE:
        try:
            found.append(file.read_text().strip())
        except OSError:  # another system, or not for this user
            continue
    return found


def _cards() -> list[str]:
    """Hardware addresses of what is no bridge or tunnel: those come and go with what runs here."""
    cards = []
    for name, addresses in psutil.net_if_addrs().items():
        if _DEVICES.exists() and not (_DEVICES / name / "device").exists():
            continue
        cards += [one.address for one in addresses if one.family == psutil.AF_LINK]
    return sorted(cards)
