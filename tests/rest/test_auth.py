"""Keys: who gets in, and what happens to those who guess."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from command_bus.access import Standing
from command_bus.errors import UnauthenticatedError
from command_bus.ids import new_id, utc_now
from command_bus.refusals import RefusalRecords
from domain.access import FULL
from domain.login_attempts import WrongKeysHeldBack
from domain.roles import Role
from gateways.rest.auth import Gate
from gateways.rest.errors import TooManyFailuresError
from gateways.rest.guesses import ACCOUNT, KEY_HOLDS, KEYS_PREFIX, PAIR, Guesses
from gateways.rest.rates import FAILED, MAX_KEYS, MOST_WAIT_S, FailureLimit, SharedRates
from tests.rest.harness import Api, Fleet


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class OneKey:
    """An authenticator that knows one key and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def authenticate(self, text: str, at: Any, *, using: bool = True) -> Any:
        del at, using
        self.asked += 1
        if not text.endswith("right"):
            raise UnauthenticatedError
        return SimpleNamespace(actor="key:1", access=FULL, grants=(), standing=Standing(), user_id=None)


class Told:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[Any] = []

    async def append(self, changes: Any, metadata: Any) -> list[int]:
        self.changes += [(change.event, metadata.actor) for change in changes]
        return [1]


def gate(seconds: Seconds, keys: OneKey, valkey: str | None = None, burst: int = 3) -> Gate:
    parts: Any = SimpleNamespace(
        authenticator=keys,
        clock=utc_now,
        failures=FailureLimit(burst, 10.0, seconds),
        key_guesses=Guesses(seconds, valkey, KEYS_PREFIX, KEY_HOLDS),
        people=SimpleNamespace(public_url=None),
        new_id=new_id,
        log=Told(),
    )
    return Gate(parts, seconds, RefusalRecords(Told(), utc_now, new_id))  # type: ignore[arg-type]


def scope(address: str = "10.0.0.1") -> dict[str, Any]:
    return {"client": (address, 1), "method": "GET", "fleetlog.correlation_id": new_id()}


async def test_guessing_is_slowed_down_and_costs_nothing() -> None:
    """After a burst of wrong keys an address waits, and what it sends is not even looked at."""
    seconds, keys = Seconds(), OneKey()
    door = gate(seconds, keys)
    for _ in range(3):
        with pytest.raises(UnauthenticatedError):
            await door.identify(scope(), Headers({"Authorization": "Bearer wrong"}))
    with pytest.raises(TooManyFailuresError) as refused:
        await door.identify(scope(), Headers({"Authorization": "Bearer wrong"}))
    assert refused.value.headers["Retry-After"] == "11"
    assert keys.asked == 3
    seconds.now = 10.0
    with pytest.raises(UnauthenticatedError):
        await door.identify(scope(), Headers({"Authorization": "Bearer wrong"}))


async def test_the_log_says_who_is_held_back() -> None:
    """Once in a quarter of an hour for each address, however long it goes on."""
    seconds = Seconds()
    door = gate(seconds, OneKey())
    told = door._parts.log.changes  # type: ignore[attr-defined]
    for _ in range(40):
        seconds.now += 10.0
        for address in ("10.0.0.1", "10.0.0.2"):
            with suppress(TooManyFailuresError, UnauthenticatedError):
                for _ in range(9):
                    with suppress(UnauthenticatedError):
                        await door.identify(scope(address), Headers({"Authorization": "Bearer wrong"}))
    held = [(WrongKeysHeldBack(address=address), "anonymous") for address in ("10.0.0.1", "10.0.0.2")]
    assert told == held
    seconds.now += 900
    with suppress(TooManyFailuresError):
        for _ in range(9):
            with suppress(UnauthenticatedError):
                await door.identify(scope(), Headers({"Authorization": "Bearer wrong"}))
    assert told == [*held, held[0]]


def of_key(key_id: Any, secret: str) -> Headers:
    return Headers({"Authorization": f"Bearer flk_{key_id.hex}_{secret}"})


@pytest.mark.parametrize("shared", [True, False])
async def test_guessing_at_one_key_backs_off(shared: bool, valkey_url: str) -> None:
    """Wrong secrets of a key wait, twice as long each time, from each address; two processes count together."""
    seconds, keys, key_id = Seconds(), OneKey(), new_id()
    url = valkey_url if shared else None
    one = gate(seconds, keys, url, 1000)
    doors = [one, gate(seconds, keys, url, 1000) if shared else one]
    for number in range(PAIR.free):
        with pytest.raises(UnauthenticatedError):
            await doors[number % 2].identify(scope(), of_key(key_id, "wrong"))
    for door in doors:
        with pytest.raises(TooManyFailuresError) as refused:
            await door.identify(scope(), of_key(key_id, "another"))
        assert int(refused.value.headers["Retry-After"]) in (int(PAIR.first_s), int(PAIR.first_s) + 1)
    assert keys.asked == PAIR.free
    assert [type(event) for event, _ in one._parts.log.changes] == [WrongKeysHeldBack]  # type: ignore[attr-defined]
    # Another key from there, and this one from elsewhere, are held to counts of their own.
    await doors[0].identify(scope(), of_key(new_id(), "right"))
    await doors[0].identify(scope("10.0.0.2"), of_key(key_id, "right"))
    for door in doors:
        await door._guesses.stop()


async def test_who_guesses_at_a_key_does_not_shut_its_owner_out(valkey_url: str) -> None:
    """From however many addresses: where the key was used before it opens, also at a process that never saw it."""
    seconds, keys, key_id = Seconds(), OneKey(), new_id()
    first, second = (gate(seconds, keys, valkey_url, 1000) for _ in range(2))
    await first.identify(scope("192.0.2.1"), of_key(key_id, "right"))
    for number in range(ACCOUNT.free):
        with pytest.raises(UnauthenticatedError):
            await first.identify(scope(f"10.0.{number}.1"), of_key(key_id, f"wrong{number}"))
    with pytest.raises(TooManyFailuresError):
        await second.identify(scope("10.1.0.1"), of_key(key_id, "wrong"))
    assert await second.identify(scope("192.0.2.1"), of_key(key_id, "right"))
    # Many at once with a right key that was never seen are all right.
    other = new_id()
    at_once = [second.identify(scope("192.0.2.9"), of_key(other, "right")) for _ in range(50)]
    assert len(await asyncio.gather(*at_once)) == 50
    for door in (first, second):
        await door._guesses.stop()


async def test_a_known_key_passes_beside_a_guesser() -> None:
    """One broken script behind an office's address does not lock out the office."""
    door = gate(Seconds(), OneKey())
    right = Headers({"Authorization": "Bearer right"})
    await door.identify(scope(), right)
    for _ in range(3):
        with pytest.raises(UnauthenticatedError):
            await door.identify(scope(), Headers({"Authorization": "Bearer wrong"}))
    assert (await door.identify(scope(), right)).actor == "key:1"
    assert (await door.identify(scope("10.0.0.2"), right)).actor == "key:1"


async def test_no_key_is_no_guess() -> None:
    """A request without a key is refused, and held against nobody."""
    door = gate(Seconds(), OneKey())
    for header in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer  "}):
        for _ in range(5):
            with pytest.raises(UnauthenticatedError):
                await door.identify(scope(), Headers(header))
    assert (await door.identify(scope(), Headers({"Authorization": "bearer right"}))).actor == "key:1"


@given(times=st.lists(st.floats(0, 100), max_size=60))
def test_no_address_fails_more_often_than_it_may(times: list[float]) -> None:
    """Whatever the rhythm: within any time, at most the burst and one more for each interval."""
    seconds = Seconds()
    limit = FailureLimit(3, 10.0, seconds)
    passed = 0
    for at in sorted(times):
        seconds.now = at
        if limit.wait_s("a") == 0:
            limit.failed("a")
            passed += 1
    assert passed <= 3 + 100 / 10


def test_many_wrong_keys_at_once_shut_an_address_for_a_minute_at_the_most() -> None:
    """However many there were: what is behind that address may try again."""
    seconds = Seconds()
    limit = FailureLimit(20, 3.0, seconds)
    for _ in range(10_000):
        limit.failed("a")
    assert MOST_WAIT_S - 3 <= limit.wait_s("a") <= MOST_WAIT_S
    seconds.now += MOST_WAIT_S
    assert limit.wait_s("a") == 0


def test_memory_of_guessers_is_bounded() -> None:
    """A million addresses cost no more than the newest ten thousand."""
    limit = FailureLimit(3, 10.0, Seconds())
    for i in range(MAX_KEYS + 100):
        limit.failed(str(i))
    assert len(limit._buckets) == MAX_KEYS


async def test_processes_hold_a_guesser_back_together(valkey_url: str) -> None:
    """Who guesses at one process has so much less to guess at another."""
    address = f"10.0.0.{new_id()}"
    one, other = (FailureLimit(5, 1000.0, lambda: 0.0) for _ in range(2))
    services = [SharedRates(limit, valkey_url, FAILED) for limit in (one, other)]
    for limit, service in zip((one, other), services, strict=True):
        limit.failed(address)
        await service.share()
    for _ in range(3):
        one.failed(address)
    other.failed(address)
    assert (one.wait_s(address), other.wait_s(address)) == (0.0, 0.0)
    for service in services:
        await service.share()
    assert one.wait_s(address) > 0
    assert other.wait_s(address) > 0
    for service in services:
        await service.stop()


async def test_no_answer_without_a_key(api: Api) -> None:
    """401 with the way to do it right, on reads, writes and streams alike."""
    for key in ("", "flk_nonsense", api.admin_key[:-1] + ("a" if api.admin_key[-1] != "a" else "b")):
        for method, path in (("GET", "/agents"), ("POST", "/commands"), ("GET", "/events/stream"), ("GET", "/me")):
            response = await api.client(key).request(method, path)
            assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
            assert response.headers["www-authenticate"].startswith("Bearer")


async def test_roles_are_kept(api: Api, fleet: Fleet) -> None:
    """An auditor reads and changes nothing; an operator works and does not administer."""
    agent_id = await fleet.agent()
    auditor, operator = api.client(await api.key(Role.AUDITOR)), api.client(await api.key(Role.OPERATOR))
    assert (await auditor.get("/events")).status_code == 200
    body = {"agent_id": agent_id, "spec": {"kind": "ping"}}
    assert (await auditor.post("/commands", json=body)).json()["code"] == "forbidden"
    assert (await operator.post("/commands", json=body)).status_code == 202
    assert (await operator.post("/clients", json={"name": "x"})).json()["code"] == "forbidden"
    assert (await operator.get("/api-keys")).json()["code"] == "forbidden"
    me = (await operator.get("/me")).json()
    assert [grant["role"] for grant in me["grants"]] == ["operator"]
    assert "agents.retire" not in [one["permission"] for one in me["may"]]


async def test_a_revoked_key_is_shut_out(api: Api) -> None:
    """Within a second of its revocation a key opens nothing."""
    key = await api.key(Role.AUDITOR)
    client = api.client(key)
    me = (await client.get("/me")).json()
    assert (await api.client().post(f"/api-keys/{me['actor'].removeprefix('key:')}/revoke", json={})).status_code == 200
    async with asyncio.timeout(5):
        while (await client.get("/me")).status_code != 401:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)


async def test_a_key_is_found_by_how_it_begins(api: Api) -> None:
    """By any leading piece of what is not secret about it; a whole key is refused, and not said again."""
    http = api.client()
    made = await http.post("/api-keys", json={"name": "ci", "role": "read-only"})
    key, prefix = made.json()["key"], made.json()["prefix"]
    assert (key.startswith(prefix), len(prefix)) == (True, 20)
    for piece in (prefix, key[:36], key[:12]):
        items = (await http.get("/api-keys", params={"prefix": piece})).json()["items"]
        assert [one["prefix"] for one in items if one["id"] == made.json()["id"]] == [prefix]
    assert (await http.get("/api-keys", params={"prefix": "flk_" + "0" * 32})).json()["items"] == []
    for wrong in (key, key[:38], "flt_00", "flk_", "FLK_00", "flk_0g"):
        refused = await http.get("/api-keys", params={"prefix": wrong})
        assert (refused.status_code, refused.json()["code"], key[37:] in refused.text) == (
            422,
            "invalid_request",
            False,
        )
