"""How often one agent, one machine that waits and one token may come over HTTP, at all processes together."""

from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from command_bus.ids import new_id, utc_now
from domain.errors import DomainError
from gateways.agents.http import FAILURE_BURST, Bounds
from gateways.rest.rates import AGENTS_SPENT, SharedRates, per_minute
from schema import wire
from tests.rest.conftest import administered
from tests.rest.gains import ASKS
from tests.rest.harness import Fleet, made, metric
from tests.rest.test_refused_and_counted import Machine, enrolled


async def test_each_is_held_to_its_own_pace(postgres_url: str) -> None:
    """429 with when to come again, counted; nothing of that for another. Who asks again spends nothing of a token."""
    bounds = Bounds(agents=per_minute(3, lambda: 0.0), tokens=per_minute(2, lambda: 0.0))
    async with administered(postgres_url, agents=True, bounds=bounds) as api:
        fleet = await Fleet.make(api, api.client(), "Acme")
        http = api.client("", check=False)

        async def check_in(machine: Machine) -> tuple[int, int]:
            asked = wire.HttpCheckIn(agent_id=UUID(machine.agent_id), sent_at=utc_now(), messages=[])
            body = msgspec.msgpack.encode(asked)
            headers = {wire.HTTP_SIGNATURE_HEADER: machine.key.sign(wire.HTTP_CONTEXT + body).hex()}
            answer = await http.post("/agent/check-in", content=body, headers=headers)
            return answer.status_code, int(answer.headers.get("Retry-After", "0"))

        one, other = await enrolled(fleet), await enrolled(fleet)
        counted = await metric(api, "fleetlog_agent_refused_total", code="too_many_requests")
        assert [await check_in(one) for _ in range(3)] == [(200, 0)] * 3
        status, again_s = await check_in(one)
        assert (status, again_s >= 20) == (429, True)
        assert await check_in(other) == (200, 0)
        assert await metric(api, "fleetlog_agent_refused_total", code="too_many_requests") == counted + 1

        token = await made(fleet.http, "/enrollment-tokens", {"site_id": fleet.site_id, "max_uses": 9})
        first = Machine()
        bodies = [machine.asks(token["token"]) for machine in (first, first, Machine(), Machine())]
        answers = [await http.post("/enroll", json=body) for body in bodies]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
        refused = answers[-1]
        assert (refused.json()["code"], int(refused.headers["Retry-After"]) >= 30) == ("enrollments_too_fast", True)
        guarded = await made(fleet.http, "/enrollment-tokens", {"site_id": fleet.site_id, **ASKS})
        waiting = Machine().asks(guarded["token"])
        answers = [await http.post("/enroll", json=waiting) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [409] * 3 + [429]
        # Whoever knows a token's id alone spends nothing of it.
        wrong = Machine().asks(guarded["token"][:-2])
        assert (await http.post("/enroll", json=wrong)).json()["code"] == "unknown_token"
        assert (await http.post("/enroll", json=Machine().asks(guarded["token"]))).status_code == 409


async def test_a_network_of_ipv6_is_one_address(postgres_url: str) -> None:
    """Whoever has one of its addresses has them all: wrong tokens from each in turn count together."""
    async with administered(postgres_url, agents=True) as api:
        assert api.agents is not None
        routed, body = (
            Starlette(routes=[Mount("/api/v1", routes=api.agents.routes())]),
            Machine().asks("flt_wrong.token"),
        )

        async def named(scope: Any, receive: Any, send: Any) -> None:
            await routed({**scope, "fleetlog.correlation_id": new_id()}, receive, send)

        async def asked(address: str) -> int:
            transport = httpx2.ASGITransport(app=named, client=(address, 40_000))
            async with httpx2.AsyncClient(transport=transport, base_url="http://fleetlog.example") as client:
                with pytest.raises(DomainError) as refused:
                    await client.post("/api/v1/enroll", json=body)
                return refused.value.status

        answers = [await asked(f"2001:db8:0:7::{number:x}") for number in range(1, FAILURE_BURST + 3)]
        assert answers[FAILURE_BURST - 1] != 429
        assert answers[-1] == 429
        assert await asked("2001:db8:0:8::1") == answers[0]


async def test_processes_count_together_and_alone_without_valkey(valkey_url: str) -> None:
    """What one lets in the other takes out of its own; while Valkey is away nobody is refused who has room here."""
    who = str(new_id())
    one, other = per_minute(10, lambda: 0.0), per_minute(10, lambda: 0.0)
    assert one is not None
    assert other is not None
    assert per_minute(0, lambda: 0.0) is None
    services = [SharedRates(one, valkey_url, AGENTS_SPENT), SharedRates(other, valkey_url, AGENTS_SPENT)]
    for rates, service in zip((one, other), services, strict=True):
        assert rates.spend(who) == 0.0
        await service.share()
    assert [one.spend(who) for _ in range(8)] == [0.0] * 8
    await services[0].share()
    assert other.spend(who) == 0.0
    await services[1].share()
    assert other.spend(who) > 0
    for service in services:
        await service.stop()
    away = SharedRates(one, "redis://127.0.0.1:9", AGENTS_SPENT)
    await away.start()
    assert one.spend(str(new_id())) == 0.0
    await away.stop()
