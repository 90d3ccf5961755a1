"""Which addresses other machines can reach this one at."""

import contextlib
import ipaddress
import socket

import psutil

ANY = ("0.0.0.0", "::")  # noqa: S104 -- compared, not bound
ANYBODY = "*"


def parse_listen(text: str, default_port: int) -> tuple[str, int]:
    """Split ``HOST[:PORT]``; an IPv6 address with a port is in brackets.

    Raises:
        ValueError: it is neither.
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not HOST[:PORT]")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isdecimal() and int(port) <= 65535)):  # noqa: PLR2004 -- the largest port
        raise ValueError(f"{text!r} is not HOST[:PORT]")
    return host, int(port) if port else default_port


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):  # a name: it stands for an address of some interface
        return ipaddress.ip_address(host).is_loopback
    return False


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def reachable(host: str) -> list[str]:
    """Addresses at which something that listens on ``host`` is reached from outside, the likeliest first."""
    if host not in ANY:
        return [host]
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not ipaddress.ip_address(address.address).is_loopback
    ]
    # The one that the machine itself would speak from; connecting a datagram socket sends nothing.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        primary = probe.getsockname()[0]
        found = [primary, *(address for address in found if address != primary)]
    return found or [socket.gethostname()]


class Peers:
    """The loopback, and some addresses and networks besides.

    Args:
        trusted: as `FLEETLOG_TRUSTED_PROXIES` has them: separated by commas; `*` is everybody.

    Raises:
        ValueError: one of them is neither.
    """

    def __init__(self, trusted: str) -> None:
        named = [one.strip() for one in trusted.split(",") if one.strip()]
        self._anybody = ANYBODY in named
        self._networks = [ipaddress.ip_network(one, strict=False) for one in named if one != ANYBODY]

    def __contains__(self, host: object) -> bool:
        try:
            address = ipaddress.ip_address(str(host))
        except ValueError:
            return self._anybody
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return self._anybody or address.is_loopback or any(address in network for network in self._networks)
