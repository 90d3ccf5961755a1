"""How the platform fares, as an answer."""

import asyncio
import time
from functools import partial
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from gateways.status import GLANCE_S, Glances, Status, collect
from tests.rest.conftest import administered
from tests.rest.harness import Fleet, alone


async def test_what_is_up_and_what_is_down_is_told(postgres_url: str, nats_url: str, valkey_url: str) -> None:
    """Servers that answer, roles that nobody fills, how far each projection is, and what the database takes."""
    settings = alone(postgres_url, nats_url=SecretStr(nats_url), redis_url=SecretStr(valkey_url), archive_after_days=90)
    async with administered(postgres_url, status=partial(collect, settings)) as api:
        http = api.client()
        fleet = await Fleet.make(api, http, "Acme")
        agent_id = await fleet.agent()
        await fleet.command(agent_id)
        await api.waiter.wait(await api.log.head(), ["agents"], 10.0)
        told = (await http.get("/status")).json()
        parts = {one["name"]: one["ok"] for one in told["parts"]}
        assert parts == {"postgres": True, "nats": True, "valkey": True, "api": False}
        assert "could change the past" in told["parts"][0]["detail"]  # the tests' own login
        assert {one["role"]: one["state"] for one in told["processes"]} == dict.fromkeys(
            ("projector", "gateway", "worker", "scheduler", "api"), "missing"
        )
        assert all(one["ok"] for one in told["projections"])
        assert {"pending", "agents", "users"} <= {one["name"] for one in told["projections"]}
        assert (told["pending"]["queued"], told["agents"]["total"]) == (1, 1)
        assert told["database_bytes"] > 1_000_000
        kept = {"archive_after_days": 90, "output_keep_days": None, "output_keep_bytes": None}
        assert told["retention"] == kept | {"version": 0}
        assert told["ok"] is False
        assert any(line.startswith("api: ") for line in told["faults"])


async def test_servers_that_are_away_are_an_answer(postgres_url: str) -> None:
    """Neither NATS nor Valkey has to be there to say that it is not; no answer tells of a password."""
    settings = alone(postgres_url, redis_url=SecretStr("redis://:hush@127.0.0.1:1/0"))
    async with administered(postgres_url, status=partial(collect, settings)) as api:
        answer = await api.client().get("/status")
    assert answer.status_code == 200
    parts = {one["name"]: one for one in answer.json()["parts"]}
    assert [parts[name]["ok"] for name in ("postgres", "nats", "valkey")] == [True, False, False]
    assert parts["nats"]["detail"]
    assert parts["valkey"]["detail"]
    assert "hush" not in answer.text


async def test_it_belongs_to_no_tenant(postgres_url: str) -> None:
    """Whoever has the permission over one client alone is refused."""
    async with administered(postgres_url) as api:
        fleet = await Fleet.make(api, api.client(), "Acme")
        narrow = api.client(await api.key(client_ids=[UUID(fleet.client_id)]))
        answer = await narrow.get("/status")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_many_who_ask_cost_one_look() -> None:
    """At once or within a moment, all get the same; after it, there is another look. One that failed is not kept."""
    looks, now = 0, time.monotonic()
    nothing: Any = dict.fromkeys(Status.__struct_fields__)

    async def look() -> Status:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        if looks == 1:
            raise OSError("away")
        return Status(**nothing)

    glances = Glances(look, lambda: now)
    first = await asyncio.gather(*(glances() for _ in range(20)), return_exceptions=True)
    assert [type(one) for one in first].count(OSError) == 1
    assert looks == 2
    now += GLANCE_S - 0.01
    await glances()
    assert looks == 2
    now += 0.01
    await glances()
    assert looks == 3
