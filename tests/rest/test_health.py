"""Whether it is up, and what it does while what it needs is away."""

import asyncio
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg_pool import PoolClosed, PoolTimeout

from command_bus.event_log import LogUnavailableError, OutcomeUnknownError
from command_bus.session_rows import SessionRows
from gateways.rest.parts import Readiness
from tests.rest.harness import Api, composed
from tests.rest.people import Person


async def get(api: Api, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=api.url, trust_env=False) as client:
        return await client.get(path)


async def test_health_and_readiness_need_no_key(api: Api) -> None:
    """A load balancer asks without a key and hears of each dependency."""
    assert (await get(api, "/healthz")).json() == {"status": "ok"}
    ready = await get(api, "/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["checks"]["postgres"]["ok"]


async def test_a_missing_dependency_is_named(postgres_url: str) -> None:
    """503 if it is needed; shown and no more if it is not."""

    async def away() -> dict[str, Any]:
        raise ConnectionError("nobody there")

    for needed, status in ((True, 503), (False, 200)):
        async with composed(postgres_url, readiness={"valkey": Readiness(probe=away, needed=needed)}) as api:
            response = await get(api, "/readyz")
        assert response.status_code == status
        assert response.json()["checks"]["valkey"] == {"ok": False, "needed": needed, "error": "nobody there"}


async def test_while_it_starts_it_says_so(postgres_url: str) -> None:
    """A database that is away at the start: requests are answered 503 with Retry-After, and served once it is there."""
    there = asyncio.Event()

    class Slow:
        async def start(self) -> None:
            await there.wait()

        async def stop(self) -> None:
            pass

    async with composed(postgres_url, first=Slow(), start_grace_s=0.05) as api:
        assert (await get(api, "/healthz")).status_code == 200
        ready = await get(api, "/readyz")
        assert (ready.status_code, ready.json()["checks"]["api"]["error"]) == (503, "starting")
        response = await api.client("flk_x").get("/agents")
        assert (response.status_code, response.json()["code"]) == (503, "starting")
        assert response.headers["retry-after"] == "1"
        there.set()
        async with asyncio.timeout(20):
            while (await get(api, "/readyz")).json()["checks"]["api"].get("error"):  # noqa: ASYNC110 - asks as a balancer does
                await asyncio.sleep(0.02)
        assert (await api.client("flk_x").get("/agents")).status_code == 401


@pytest.mark.parametrize(
    ("error", "code"), [(LogUnavailableError("away"), "log_unavailable"), (OutcomeUnknownError("?"), "outcome_unknown")]
)
async def test_a_log_that_is_away_is_not_an_error_of_ours(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    """503 with Retry-After, and whether it may have happened: never a 500, never a 2xx (invariant 1)."""

    async def fails(*_: Any) -> list[int]:
        raise error

    monkeypatch.setattr(api.log, "append", fails)
    response = await api.client().post("/clients", json={"name": "x"})
    assert (response.status_code, response.json()["code"]) == (503, code)
    assert "retry-after" in response.headers


@pytest.mark.parametrize("error", [psycopg.OperationalError("away"), PoolTimeout("none free"), PoolClosed("shut")])
async def test_a_session_while_the_database_is_away_is_told_as_little_as_a_stranger(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whether it is ready is answered all the same: sessions are rows, which no event log reads."""
    ada = await Person.ready(api, "Ada", {"role": "administrator", "everything": True})
    elsewhere = {"Authorization": f"Bearer {ada.token}", "X-Forwarded-For": "203.0.113.9"}

    async def fails(*_: Any) -> None:
        raise error

    async with httpx2.AsyncClient(base_url=api.url, trust_env=False) as client:
        assert "checks" in (await client.get("/readyz", headers=elsewhere)).json()
        monkeypatch.setattr(SessionRows, "get", fails)
        answer = await client.get("/readyz", headers=elsewhere)
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_what_nobody_foresaw_is_a_problem_document_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours: 500 with the id that the server's log has, and nothing of its inside."""

    async def fails(*_: Any) -> list[int]:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr(api.log, "append", fails)
    response = await api.client().post("/clients", json={"name": "x"})
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.json()["instance"]
