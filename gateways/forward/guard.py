"""Where may be sent to: a destination is a way to have this server knock at doors that its own network trusts it with.

A name is resolved once for each connection, every address that it has is judged, and the connection goes to one of
those very addresses: what the name means a moment later (DNS rebinding) does not matter. What lies in a network that
the administrator of this server allows is let through; of all else only public addresses, and no plain text.
(OWASP, Server-Side Request Forgery Prevention Cheat Sheet; RFC 6890 for the address blocks.)
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from gateways.forward.errors import AddressRefusedError, UnreachableError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
RESOLVE_S = 5.0
SETTING = "FLEETLOG_FORWARD_ALLOWED_NETWORKS"
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_LOW_32 = 0xFFFFFFFF
_OF_CLOUDS = frozenset({ipaddress.IPv4Address("168.63.129.16")})
"""Public by its number, and in truth the host below a virtual machine (Azure)."""


def networks(text: str) -> tuple[Network, ...]:
    """Networks as a setting names them, separated by commas: ``10.0.0.0/8, fd00::/8``.

    Raises:
        ValueError: one is none.
    """
    return tuple(ipaddress.ip_network(word.strip()) for word in text.split(",") if word.strip())


def meant(address: Address) -> Address:
    """Whom an address reaches in the end: IPv4 addresses also come dressed as IPv6 ones."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    dressed = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if dressed is not None:
        return dressed
    loopback_or_none = int(address) <= 1
    if address in _NAT64 or (address in _COMPATIBLE and not loopback_or_none):
        return ipaddress.IPv4Address(int(address) & _LOW_32)
    return address


def kind_of(address: Address) -> str | None:
    """What keeps an address from being a public one; None if nothing does."""
    address = meant(address)
    kinds = (
        ("the unspecified address", address.is_unspecified),
        ("a loopback address", address.is_loopback),
        ("a link-local address", address.is_link_local),
        ("a multicast address", address.is_multicast),
        ("an address of a cloud's own services", address in _OF_CLOUDS),
        ("a private address", address.is_private or getattr(address, "is_site_local", False)),
        ("a reserved address", address.is_reserved or not address.is_global),
    )
    return next((kind for kind, is_it in kinds if is_it), None)


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, as the system knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Guard:
    """Judges destinations.

    Args:
        allowed: networks that are let through, whatever they are.
        resolver: tells a host's addresses.
    """

    def __init__(self, allowed: Sequence[Network] = (), resolver: Resolve = resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolver

    async def addresses(self, host: str, port: int, *, plain: bool) -> list[str]:
        """Where to connect to for a host: to these addresses, and no others.

        Args:
            host: a name or an address.
            port: of what listens there.
            plain: what is sent is not encrypted.

        Raises:
            AddressRefusedError: one of its addresses is none to send to.
            UnreachableError: the name is not known.
        """
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await self._resolve(host, port)
        except TimeoutError:
            raise UnreachableError(f"{host} was not resolved within {RESOLVE_S:g} s.") from None
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"{host} cannot be resolved: {error}.") from error
        if not found:
            raise UnreachableError(f"{host} has no address.")
        for text in found:
            self._judge(host, text, plain=plain)
        return found

    def _judge(self, host: str, text: str, *, plain: bool) -> None:
        address = meant(ipaddress.ip_address(text))
        if any(address in network for network in self._allowed if network.version == address.version):
            return
        shown = text if text == host else f"{host} is {text}, and that"
        if kind := kind_of(address):
            raise AddressRefusedError(f"{shown} is {kind}: {SETTING} would have to allow it.")
        if plain:
            raise AddressRefusedError(
                f"{shown} is reached in plain text, and that leaves for networks alone that {SETTING} names. Use TLS."
            )
