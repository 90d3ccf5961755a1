"""Hashes of passwords."""

import asyncio
import threading

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given
from hypothesis import strategies as st

from command_bus.errors import LoginsBusyError
from command_bus.passwords import Cost, PasswordHasher

QUICK = Cost(memory_kib=64, iterations=1)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40), st.text("ab", max_size=3))
def test_a_hash_knows_its_password_and_no_other(password: str, other: str) -> None:
    """It is Argon2id with a salt of its own, and says what it cost."""

    async def check() -> None:
        hasher = PasswordHasher(QUICK)
        one, two = await hasher.hash(password), await hasher.hash(password)
        assert one != two
        assert one.startswith("$argon2id$v=19$m=64,t=1,p=1$")
        assert await hasher.verify(password, one)
        assert await hasher.verify(other, one) == (other == password)

    asyncio.run(check())


async def test_nobody_costs_as_much_as_somebody() -> None:
    """Where there is nothing to compare with, the same work is done, at the same cost, and the answer is no."""
    hasher = PasswordHasher(QUICK)
    kept = await hasher.hash("a password")
    runs = hasher.runs
    assert await hasher.verify("wrong", kept) is False
    assert await hasher.verify("wrong", None) is False
    assert hasher.runs == runs + 2
    assert hasher._nobodys.split("$")[:4] == kept.split("$")[:4]
    assert [len(part) for part in hasher._nobodys.split("$")] == [len(part) for part in kept.split("$")]


async def test_the_usual_cost_is_that_of_the_standard() -> None:
    """RFC 9106, section 4: 64 MiB and three passes."""
    kept = await PasswordHasher().hash("a password")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=1$")


async def test_a_flood_takes_no_more_memory_than_was_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are worked out at once, so many wait, and all beyond are refused at once; then there is room again."""
    going, most, lock, gate = 0, 0, threading.Lock(), threading.Event()

    def slow(*_: object) -> None:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
        gate.wait(20)
        with lock:
            going -= 1

    monkeypatch.setattr("command_bus.passwords.Argon2id", type("Slow", (), {"verify_phc_encoded": staticmethod(slow)}))
    hasher = PasswordHasher(QUICK, at_once=2, waiting=3)
    asked = [asyncio.ensure_future(hasher.verify("x", "kept")) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(LoginsBusyError):
        await hasher.verify("x", "kept")
    # Who has gone leaves the thread busy, and its place taken.
    asked[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(20):
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert results[1:] == [True] * 4
    assert most == 2
    monkeypatch.setattr("command_bus.passwords.Argon2id", Argon2id)
    assert await hasher.verify("x", await hasher.hash("x"))
