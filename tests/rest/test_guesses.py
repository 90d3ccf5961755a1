"""Guesses at passwords and codes are held back, and their victims are not."""

import asyncio
import random
from typing import Any

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from command_bus.handlers.login_checks import Wait
from gateways.rest.guesses import ACCOUNT, ADDRESS, HOLDS, PAIR, PREFIX, Guesses, OwnCounts, _keys
from tests.rest.harness import Api
from tests.rest.people import Person

WRONG = "wrong wrong wrong"


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def failures(guesses: Guesses, account: str, address: str, most: int = 100) -> int:
    """How many attempts are let through at once."""
    count = 0
    while count < most and await guesses.attempt(account, address) is None:
        count += 1
    return count


@pytest.fixture(params=["valkey", "own"])
def guesses(request: pytest.FixtureRequest) -> Guesses:
    url = request.getfixturevalue("valkey_url") if request.param == "valkey" else None
    return Guesses(Seconds(), url)


async def test_a_few_are_free_and_then_waits_grow(guesses: Guesses) -> None:
    """An account from one address: four at once; who has to wait is told for how long."""
    assert await failures(guesses, "ada", "10.0.0.1") == PAIR.free
    first = await guesses.attempt("ada", "10.0.0.1")
    again = await guesses.attempt("ada", "10.0.0.1")
    assert first is not None
    assert again is not None
    assert 0 < again.seconds <= first.seconds <= PAIR.first_s
    assert not again.first
    await guesses.stop()


async def test_what_was_right_is_forgiven(guesses: Guesses) -> None:
    """After a success the account's count from there begins anew; the address keeps what it guessed at others."""
    for i in range(ADDRESS.free - 1):
        assert await guesses.attempt(f"user {i}", "10.0.0.1") is None
    assert await guesses.attempt("ada", "10.0.0.2") is None
    await guesses.succeeded("ada", "10.0.0.2")
    assert await failures(guesses, "ada", "10.0.0.2") == PAIR.free
    assert await failures(guesses, "another", "10.0.0.1") == 1
    await guesses.stop()


async def test_an_account_under_attack_is_open_to_its_owner(guesses: Guesses) -> None:
    """From however many addresses it is guessed at: where its owner has logged in before, they do so again."""
    await guesses.attempt("ada", "192.0.2.1")
    await guesses.succeeded("ada", "192.0.2.1")
    tried = 0
    for i in range(200):
        tried += await failures(guesses, "ada", f"10.0.{i}.1", most=1)
    assert tried <= ACCOUNT.free
    assert await guesses.attempt("ada", "192.0.2.1") is None
    wait = await guesses.attempt("ada", "198.51.100.7")
    assert wait is not None
    assert wait.seconds <= ACCOUNT.most_s
    await guesses.stop()


async def test_a_colleague_who_guesses_does_not_lock_the_office_out(guesses: Guesses) -> None:
    """One address, many accounts: whoever has logged in from there goes on to do so, and the guesser does not."""
    await guesses.attempt("ada", "192.0.2.1")
    await guesses.succeeded("ada", "192.0.2.1")
    passed = 0
    for i in range(100):
        passed += await failures(guesses, f"user {i}", "192.0.2.1", most=1)
    assert passed <= ADDRESS.free
    assert await guesses.attempt("ada", "192.0.2.1") is None
    assert await guesses.attempt("grace", "203.0.113.9") is None
    await guesses.stop()


async def test_many_at_once_do_not_slip_through_together(guesses: Guesses) -> None:
    """An attempt is counted before it is looked at."""
    answers = await asyncio.gather(*(guesses.attempt("ada", "10.0.0.1") for _ in range(50)))
    assert sum(answer is None for answer in answers) == PAIR.free
    await guesses.stop()


async def test_an_ipv6_network_counts_as_one_address(guesses: Guesses) -> None:
    """Whoever has a network has all of its addresses; an IPv4 address written as IPv6 is the same one."""
    assert sum([await failures(guesses, "ada", f"2001:db8::{i:x}", most=1) for i in range(1, 50)]) == PAIR.free
    assert await failures(guesses, "ada", "2001:db8:0:1::1", most=1) == 1
    assert await failures(guesses, "bob", "10.0.0.9", most=2) == 2
    assert await failures(guesses, "bob", "::ffff:10.0.0.9") == PAIR.free - 2
    await guesses.stop()


def test_waits_grow_to_their_end() -> None:
    """Each wait is the last one doubled, never beyond the most, and never for ever."""
    for hold in HOLDS:
        waits = [hold.wait_s(count) for count in range(200)]
        assert waits[: hold.free] == [0.0] * hold.free
        assert waits[hold.free] == hold.first_s
        assert waits == sorted(waits)
        assert max(waits) == hold.most_s


STEPS = st.lists(
    st.tuples(st.sampled_from(["ada", "bob"]), st.sampled_from(["a", "b", "c"]), st.integers(0, 40), st.booleans()),
    max_size=60,
)


@given(STEPS)
def test_any_history_is_held_back_and_nobody_for_ever(steps: list[tuple[str, str, int, bool]]) -> None:
    """A refused attempt is not counted; a wait is never longer than the most; after it an attempt is let through."""
    seconds = Seconds()
    own = OwnCounts(seconds)
    for account, address, pause, right in steps:
        seconds.now += pause
        keys = _keys(PREFIX, account, address)
        wait = own.attempt(keys, count=True)
        if wait is None:
            if right:
                own.succeeded(keys)
                assert own.attempt(keys, count=True) is None
            continue
        assert 0 < wait.seconds <= PAIR.most_s
        again = own.attempt(keys, count=True)
        assert again is not None
        assert (again.seconds, again.first) == (wait.seconds, False)
        seconds.now += PAIR.most_s
        assert own.attempt(keys, count=True) is None


async def test_two_ways_of_counting_agree(valkey_url: str) -> None:
    """The same attempts, at one moment, are let through by Valkey and by one process."""
    for seed in range(8):
        draw = random.Random(seed)
        shared, own = Guesses(Seconds(), valkey_url), OwnCounts(Seconds())
        for _ in range(60):
            account, address = f"{seed} {draw.choice('ab')}", f"{seed} {draw.choice('xyz')}"
            one, two = await shared.attempt(account, address), own.attempt(_keys(PREFIX, account, address), count=True)
            assert (one is None) == (two is None)
            if one is None and draw.random() < 0.15:
                await shared.succeeded(account, address)
                own.succeeded(_keys(PREFIX, account, address))
        await shared.stop()


async def test_without_valkey_each_process_counts_for_itself() -> None:
    """It is neither open to all guesses nor shut to everybody."""
    guesses = Guesses(Seconds(), "redis://127.0.0.1:1/0")
    assert await failures(guesses, "ada", "10.0.0.1") == PAIR.free
    assert await failures(guesses, "bob", "10.0.0.2") == PAIR.free
    await guesses.succeeded("carol", "10.0.0.3")
    await guesses.stop()


async def test_processes_count_together(valkey_url: str) -> None:
    """What is guessed at one is held back at another; nothing there tells who, or from where."""
    one, two = Guesses(Seconds(), valkey_url), Guesses(Seconds(), valkey_url)
    assert await failures(one, "ada", "10.0.0.1", most=2) + await failures(two, "ada", "10.0.0.1") == PAIR.free
    async with redis.asyncio.Redis.from_url(valkey_url) as client:
        keys = [key.decode() async for key in client.scan_iter()]
        ttls = [await client.ttl(key) for key in keys]
    assert keys
    assert all(key.startswith(PREFIX) and "ada" not in key and "10.0" not in key for key in keys)
    assert all(ttl > 0 for ttl in ttls)
    await one.stop()
    await two.stop()


async def test_guessing_at_a_login_is_locked_out(api: Api) -> None:
    """429 with Retry-After, the right password too; nothing is hashed, and the log says so once."""
    ada = await Person.add(api)
    for _ in range(PAIR.free):
        assert (await ada.try_to_log_in(password=WRONG)).status_code == 401
    runs = api.hasher.runs
    for _ in range(3):
        refused = await ada.try_to_log_in()
        assert (refused.status_code, refused.json()["code"]) == (429, "locked_out")
        assert 1 <= int(refused.headers["Retry-After"]) <= PAIR.first_s + 1
    assert api.hasher.runs == runs
    (locked,) = await ada.events("LoginLockedOut")
    assert (locked["data"]["user_id"], locked["data"]["address"]) == (ada.user_id, "127.0.0.1")
    assert len(await ada.events("LoginRefused")) == PAIR.free


async def test_a_name_that_nobody_has_is_locked_out_alike(api: Api) -> None:
    """Who is told to wait does not learn by it who there is."""
    ada = await Person.add(api, "Ada")
    told: list[list[Any]] = []
    for name in ("Ada", "Nobody"):
        answers = [await ada.try_to_log_in(user=name, password=WRONG) for _ in range(PAIR.free + 2)]
        told.append([(answer.status_code, answer.json()["code"], answer.json()["detail"]) for answer in answers])
    assert told[0] == told[1]


async def test_guessing_in_a_session_is_locked_out(api: Api) -> None:
    """Proofs, codes and passwords that are wrong are counted together, and the session itself goes on."""
    ada = await Person.ready(api)
    bodies = (
        ("/session/proof", {"code": "000000"}),
        ("/session/proof", {"password": "wrong wrong wrong"}),
        ("/session/password", {"current": "wrong wrong wrong", "new": "three red Pelicans"}),
        ("/session/recovery-codes", {"code": "000000"}),
    )
    codes = [(await ada.http.post(path, json=body)).json()["code"] for path, body in bodies]
    assert codes == ["proof_refused"] * PAIR.free
    assert (await ada.http.post("/session/proof", json={"code": ada.code()})).json()["code"] == "locked_out"
    assert (await ada.http.get("/session")).status_code == 200


async def test_valkey_goes_away_and_comes_back(valkey_url: str) -> None:
    """Attempts go on being counted: there, then in the process, then there again."""
    guesses = Guesses(Seconds(), valkey_url)
    assert await failures(guesses, "ada", "10.0.0.1", most=3) == 3
    client, guesses._client = guesses._client, redis.asyncio.Redis.from_url("redis://127.0.0.1:1/0")
    assert await failures(guesses, "ada", "10.0.0.1") == PAIR.free
    guesses._client = client
    assert await failures(guesses, "ada", "10.0.0.1") == 1
    wait = await guesses.attempt("ada", "10.0.0.1")
    assert isinstance(wait, Wait)
    await guesses.stop()
