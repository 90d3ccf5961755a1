"""Who is refused a login learns nothing of whether there is such an account, and what is wrong with it."""

from typing import Any

import httpx2
import pytest

from command_bus.credential_store import CredentialStore
from command_bus.ids import new_id
from gateways.rest.guesses import PAIR
from tests.rest.harness import Api, made
from tests.rest.people import SECOND, Person

WRONG = "wrong wrong wrong"
REQUEST = str(new_id())
"""One id for all, as it is the one thing that differs between answers by itself."""
READS = ("is_password", "totp", "recovery")


async def logged_in(api: Api, body: dict[str, Any]) -> httpx2.Response:
    return await api.client("", **{"X-Request-Id": REQUEST}).post("/session", json={"bearer": True} | body)


def told(answer: httpx2.Response) -> tuple[Any, ...]:
    """All that they are told, byte for byte, but when it was."""
    return answer.status_code, answer.content, sorted((k, v) for k, v in answer.headers.items() if k != "date")


async def accounts(api: Api) -> dict[str, dict[str, Any]]:
    """What is typed, by what is wrong with it: of accounts that are all in different states."""
    ada, gone = await Person.ready(api, "Ada"), await Person.ready(api, "Gone")
    new = await Person.add(api, "New")
    http = api.client()
    await made(http, f"/users/{gone.user_id}/disable", {})
    await made(http, "/users", {"name": "ci", "kind": "service"})
    await made(http, "/users", {"name": "Bare"})
    right = {"user": "Gone", "password": SECOND, "code": gone.code()}
    return {
        "unknown": {"user": "Nobody", "password": WRONG, "code": "000000"},
        "wrong password": {"user": ada.name, "password": WRONG, "code": ada.code()},
        "wrong code": {"user": ada.name, "password": SECOND, "code": "000000"},
        "disabled, all right": right,
        "disabled, wrong": right | {"password": WRONG},
        "service account": {"user": "ci", "password": WRONG, "code": "000000"},
        "without a password": {"user": "Bare", "password": WRONG, "code": "000000"},
        "not enrolled, wrong": {"user": new.name, "password": WRONG, "code": "000000"},
    }


async def test_each_refused_login_is_the_same_work_and_the_same_bytes(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown, wrong, disabled, without a password: one hash, the same reads, one event, one answer."""
    done: list[str] = []
    for name in READS:
        own = getattr(CredentialStore, name)

        async def counted(self: CredentialStore, *given: Any, _own: Any = own, _name: str = name) -> Any:
            done.append(_name)
            return await _own(self, *given)

        monkeypatch.setattr(CredentialStore, name, counted)
    streams, read_streams = [], api.log.read_streams

    async def read(ids: Any, **more: Any) -> Any:
        streams.append(len(list(ids)))
        return await read_streams(ids, **more)

    found = {}
    for state, body in (await accounts(api)).items():
        done.clear()
        runs, head = api.hasher.runs, await api.log.head()
        with monkeypatch.context() as patched:
            streams.clear()
            patched.setattr(api.log, "read_streams", read)
            answer = await logged_in(api, body)
            asked = list(streams)
        gained = [type(one.event).__name__ for one in await api.log.read(after=head)]
        found[state] = told(answer), api.hasher.runs - runs, list(done), asked, gained
    first = found["unknown"]
    assert first[0][0] == 401
    assert (first[1], first[4]) == (1, ["LoginRefused"])
    assert {state: one == first for state, one in found.items()} == dict.fromkeys(found, True), found


async def test_accounts_that_are_locked_are_told_the_same(api: Api) -> None:
    """Whoever is to wait, be there such an account or not, disabled or not: the same bytes, and nothing is hashed."""
    found = {}
    bodies = await accounts(api)
    api.guesses._own._seconds = lambda: 1_000_000.0  # none of it waits for another's pace
    for state in ("unknown", "wrong password", "disabled, all right", "service account"):
        for _ in range(PAIR.free):
            assert (await logged_in(api, bodies[state])).status_code == 401
        runs = api.hasher.runs
        found[state] = told(await logged_in(api, bodies[state]))
        assert api.hasher.runs == runs
    assert found["unknown"][0] == 429
    assert len({repr(one) for one in found.values()}) == 1, found
