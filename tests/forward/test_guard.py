"""Where may be sent to, and where not: a destination is no way into the server's own network."""

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateways.forward.errors import AddressRefusedError, UnreachableError
from gateways.forward.guard import Guard, kind_of, meant, networks
from gateways.settings import Settings
from tests.forward.receivers import Place, WebReceiver, until

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",  # noqa: S104 - judged, not bound
    "100.100.100.200", "168.63.129.16", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
    "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::a9fe:a9fe", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:0:0:0:0:80ff:fffe", "2001::1",
]  # fmt: skip


def guard(allowed: str = "", **names: list[str]) -> Guard:
    async def resolve(host: str, port: int) -> list[str]:
        del port
        return names.get(host.partition(".")[0], [host])

    return Guard(networks(allowed), resolve)


@pytest.mark.parametrize("address", PUBLIC)
async def test_public_addresses_are_reached_by_tls(address: str) -> None:
    """And in plain text they are not."""
    assert await guard().addresses(address, 443, plain=False) == [address]
    with pytest.raises(AddressRefusedError, match="plain text"):
        await guard().addresses(address, 80, plain=True)


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_what_is_not_public_is_refused(address: str) -> None:
    """However it is written, alone or among others; the error says what it is, and which setting would allow it."""
    for names in ({"x": [address]}, {"x": ["8.8.8.8", address]}):
        with pytest.raises(AddressRefusedError, match="FLEETLOG_FORWARD_ALLOWED_NETWORKS"):
            await guard(**names).addresses("x.example.com", 443, plain=False)


async def test_an_administrator_may_allow_networks() -> None:
    """Those and no others, also where an address comes in another dress, and in plain text."""
    inside = guard("10.1.0.0/16, fd00::/8", a=["10.1.2.3", "fd00::1"], b=["10.2.0.1"], c=["::ffff:10.1.2.3"])
    assert await inside.addresses("a", 514, plain=True) == ["10.1.2.3", "fd00::1"]
    assert await inside.addresses("c", 514, plain=True) == ["::ffff:10.1.2.3"]
    with pytest.raises(AddressRefusedError):
        await inside.addresses("b", 514, plain=True)
    assert Settings(forward_allowed_networks="10.0.0.0/8,::1").forward_allowed_networks
    with pytest.raises(ValidationError):
        Settings(forward_allowed_networks="10.0.0.1/8")


@given(st.ip_addresses(v=4))
def test_a_dress_changes_nothing(address: ipaddress.IPv4Address) -> None:
    """An IPv4 address is judged alike in each of its IPv6 forms."""
    number = int(address)
    for form in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        dressed = ipaddress.IPv6Address(form)
        assert meant(dressed) == address
        assert kind_of(dressed) == kind_of(address)


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "127.1", "localhost", "0"])
async def test_other_spellings_of_this_machine_are_seen_through(host: str) -> None:
    """The system's resolver knows them all; it is asked, and its answer judged."""
    with pytest.raises((AddressRefusedError, UnreachableError)):
        await Guard().addresses(host, 80, plain=False)


async def test_a_name_that_changes_its_meaning_gains_nothing(here: Place) -> None:
    """It is resolved once for each request: what was judged is what is connected to, and the name is what is sent."""
    async with WebReceiver().serving() as meant_one, WebReceiver().serving() as other:
        port = meant_one.url.rpartition(":")[2]
        asked: list[str] = []

        async def rebinding(host: str, _port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) % 2 else ["127.0.0.2"]

        await here.add({"kind": "webhook", "url": f"http://rebound.example.com:{port}/"})
        await here.grow(5)
        async with here.forwarding(Guard(networks("127.0.0.1/32"), rebinding)):
            await until(lambda: len(meant_one.requests) >= 3)
        assert {headers["host"] for headers, *_ in meant_one.requests} == {f"rebound.example.com:{port}"}
        assert len(asked) >= 2 * len(meant_one.requests) - 1
        assert other.requests == []


async def test_a_name_that_never_resolves_is_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a bounded time."""

    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("gateways.forward.guard.RESOLVE_S", 0.01)
    with pytest.raises(UnreachableError):
        await Guard((), never).addresses("x", 1, plain=False)
