"""Whom a plain-text listener hears, and who sees how a role's process fares."""

import asyncio
import time
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from command_bus.context import Caller
from command_bus.ids import new_id
from command_bus.intents.api_keys import CreateApiKey
from command_bus.refusals import EACH_MINUTE
from domain.refusals import RefusalsCounted, RequestRefused
from domain.roles import Role as BuiltIn
from gateways.local.addresses import Peers
from gateways.local.peers import ProxyAlone
from gateways.local.roles import HttpService, listening_socket, status_app
from gateways.local.watchers import WRONG_KEY_EVERY_S, WRONG_KEYS, Watchers
from gateways.rest.guesses import place_of
from gateways.rest.rates import FAILED, FailureLimit, SharedRates
from gateways.settings import Settings, SettingsError, Tls
from gateways.tls import proxies_alone
from tests.rest.conftest import administered

PROXIED = {"X-Forwarded-For": "203.0.113.9"}


async def who(request: Request) -> Response:
    return PlainTextResponse(request.client.host if request.client is not None else "nobody")


APP = Starlette(routes=[Route("/", who)])


async def asked(app: Any, address: str, **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app, client=(address, 40_000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://fleetlog.example") as client:
        return await client.get("/", headers=headers)


@pytest.mark.parametrize(
    ("trusted", "let", "not_let"),
    [
        ("", ["127.0.0.1", "::1"], ["10.0.0.1", "192.0.2.1", "fleet.example.com", ""]),
        ("10.0.0.7", ["10.0.0.7", "127.0.0.9", "::ffff:10.0.0.7"], ["10.0.0.8", "2001:db8::1"]),
        ("10.1.0.0/16, 2001:db8::/32", ["10.1.2.3", "2001:db8::1"], ["10.2.0.1", "2001:db9::1"]),
        ("*", ["192.0.2.1", "2001:db8::1"], []),
    ],
)
async def test_a_proxy_alone_is_heard(trusted: str, let: list[str], not_let: list[str]) -> None:
    """The loopback, and the addresses and networks that are named; nobody else gets to the application."""
    app = ProxyAlone(APP, Peers(trusted))
    for address in let:
        assert (await asked(app, address)).text == address
    for address in not_let:
        answer = await asked(app, address)
        assert (answer.status_code, "FLEETLOG_TRUSTED_PROXIES" in answer.text) == (403, True), address


async def test_nobody_gets_in_by_naming_a_proxy() -> None:
    """Whom the connection is from counts, and no header."""
    app = ProxyAlone(APP, Peers("10.0.0.7"))
    assert (await asked(app, "192.0.2.1", **{"X-Forwarded-For": "10.0.0.7"})).status_code == 403


def test_where_a_proxy_ends_tls_it_alone_is_heard() -> None:
    """On the loopback nobody else comes, and over TLS everybody may; what is no address keeps it from starting."""
    behind = Settings(tls=Tls.PROXY, trusted_proxies="10.0.0.0/8")
    peers = proxies_alone(behind, "192.0.2.1")
    assert peers is not None
    assert ("10.9.9.9" in peers, "192.0.2.9" in peers) == (True, False)
    assert proxies_alone(behind, "127.0.0.1") is None
    assert proxies_alone(Settings(), "192.0.2.1") is None
    with pytest.raises(SettingsError, match="TRUSTED_PROXIES"):
        proxies_alone(Settings(tls=Tls.PROXY, trusted_proxies="proxy.example.com"), "192.0.2.1")


async def test_a_listener_sees_who_is_behind_its_proxy() -> None:
    """It is let in as the proxy, and counted as the one that the proxy names."""
    listener = listening_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    service = HttpService(APP, listener, trusted_proxies="127.0.0.1", peers=Peers(""))
    await service.start()
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/", headers=PROXIED)).text == "203.0.113.9"
    finally:
        await service.stop()


async def test_a_roles_metrics_ask_who_comes_from_elsewhere(postgres_url: str) -> None:
    """This machine sees all; others whether it is up, and the rest with a key that may see the platform."""
    async with administered(postgres_url) as api:
        caller = Caller(actor="system", correlation_id=new_id())
        wanted = CreateApiKey(name="prometheus", role=BuiltIn.READ_ONLY)
        key = str((await api.bus.dispatch(wanted, caller)).answer["key"])
    settings = Settings(postgres_url=postgres_url)
    for changes, without_a_key in (({}, 401), ({"metrics_open": True}, 200)):
        watchers = Watchers(settings.model_copy(update=changes))
        app = status_app(lambda: {"gateway": "running"}, watchers)
        transport = httpx2.ASGITransport(app=app, client=("192.0.2.1", 40_000))
        try:
            async with httpx2.AsyncClient(transport=transport, base_url="http://fleetlog.example") as client:
                assert (await client.get("/healthz")).json() == {"status": "ok"}
                assert (await client.get("/readyz")).json() == {"status": "ready"}
                assert (await client.get("/metrics")).status_code == without_a_key
                for wrong in ("flk_x", f"{key[:-4]}AAAA"):
                    assert (await client.get("/metrics", headers=bearer(wrong))).status_code == without_a_key
                shown = await client.get("/metrics", headers=bearer(key))
                assert (shown.status_code, "python_info" in shown.text) == (200, True)
                assert (await client.get("/readyz", headers=bearer(key))).json()["roles"] == {"gateway": "running"}
        finally:
            await watchers.stop()


async def test_wrong_keys_at_a_role_count_with_those_at_others_and_are_on_record(
    postgres_url: str, valkey_url: str
) -> None:
    """By the network where it is IPv6, at whichever process; each is on record as at the API, with whose key it is."""
    async with administered(postgres_url) as api:
        wanted = CreateApiKey(name="prometheus", role=BuiltIn.READ_ONLY)
        answer = (await api.bus.dispatch(wanted, Caller(actor="system", correlation_id=new_id()))).answer
        head = await api.log.head()
        wrong = f"{str(answer['key'])[:-4]}AAAA"
        settings = Settings(postgres_url=postgres_url, redis_url=valkey_url)
        watchers, elsewhere = Watchers(settings), FailureLimit(WRONG_KEYS, WRONG_KEY_EVERY_S, time.monotonic)
        network = f"2001:db8:{new_id().hex[-4:]}:{new_id().hex[-4:]}"
        other = SharedRates(elsewhere, valkey_url, FAILED)
        assert watchers.shared is not None
        try:
            elsewhere.failed(place_of(f"{network}::1"))
            await other.share()
            for number in range(WRONG_KEYS):
                transport = httpx2.ASGITransport(
                    app=status_app(dict, watchers), client=(f"{network}::{number + 1:x}", 40_000)
                )
                async with httpx2.AsyncClient(transport=transport, base_url="http://fleetlog.example") as client:
                    assert (await client.get("/metrics", headers=bearer(wrong))).status_code == 401
                    right = await client.get("/metrics", headers=bearer(str(answer["key"])))
            assert right.status_code == 401  # the network waits, though no address of it came twice
            await watchers.shared.share()
            elsewhere.failed(place_of(f"{network}::1"))
            await other.share()
            assert elsewhere.wait_s(place_of(f"{network}::1")) > 0
        finally:
            await watchers.stop()
            await other.stop()
        gained = [one.event for one in await api.log.read(after=head)]
    refused = [one for one in gained if isinstance(one, RequestRefused)]
    assert EACH_MINUTE <= len(refused) < WRONG_KEYS
    assert {(str(one.key_id), str(one.user_id), one.code) for one in refused} == {
        (str(answer["id"]), str(answer["owner_id"]), "unauthenticated")
    }
    counts = [count for one in gained if isinstance(one, RefusalsCounted) for count in one.counts]
    assert {one.code for one in counts} == {"unauthenticated", "too_many_failures"}


async def test_behind_a_proxy_this_machine_is_asked_too() -> None:
    """Where a proxy may stand here, or says that it does, the loopback may be anybody."""
    for settings, headers in ((Settings(tls=Tls.PROXY), {}), (Settings(), PROXIED)):
        app = status_app(lambda: {"gateway": "running"}, Watchers(settings))
        transport = httpx2.ASGITransport(app=app, client=("127.0.0.1", 40_000))
        async with (
            asyncio.timeout(10),
            httpx2.AsyncClient(transport=transport, base_url="http://fleetlog.example") as client,
        ):
            assert (await client.get("/metrics", headers=headers)).status_code == 401


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
