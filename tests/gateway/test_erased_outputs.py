"""What the commands of an erased agent printed goes with it, and nothing of anybody else's."""

import asyncio
from typing import Any

import pytest

from command_bus.event_log import Selection
from domain.erasures import OutputsErased
from gateways.agents.erased_outputs import erase_outputs
from gateways.agents.outputs import OutputRemovedError, OutputStore
from gateways.local.jobs import all_jobs
from tests.audit.chaining import connect, signed, verified
from tests.gateway.test_outputs import content, digest, inline
from tests.rest.conftest import api, fleet
from tests.rest.harness import Api, Fleet, made

__all__ = ["api", "fleet"]

OWN, BOTH = b"its own words\n" * 9, b"what two machines say\n" * 9


async def erased(api: Api, fleet: Fleet) -> str:
    """An agent that was erased, after two of its commands had printed something, one of which another's had as well."""
    one, other = await fleet.agent("one"), await fleet.agent("other")
    await OutputStore(api.pool).put_inline([inline(OWN), inline(BOTH)])
    for agent_id, raw in ((one, OWN), (one, BOTH), (other, BOTH)):
        await fleet.finish(agent_id, await fleet.command(agent_id), stdout=inline(raw))
    await made(fleet.http, f"/agents/{one}/retire", {})
    await made(fleet.http, f"/agents/{one}/erase", {})
    await api.waiter.wait(await api.log.head(), ["commands"], 10)
    return one


async def told(api: Api) -> list[tuple[str, int, int]]:
    found = await api.log.read(Selection(types=("OutputsErased",)))
    return [
        (str(one.agent_id), one.event.outputs, one.event.bytes) for one in found if isinstance(one.event, OutputsErased)
    ]


async def test_an_erased_agents_outputs_are_gone_and_others_stay(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """Each once, on record, with the chain as it was; what another machine printed as well is that one's."""
    assert await erase_outputs(api.pool, api.log) == 0
    agent_id = await erased(api, fleet)
    assert await erase_outputs(api.pool, api.log) == 1
    assert await told(api) == [(agent_id, 1, len(OWN))]
    with pytest.raises(OutputRemovedError, match="erased"):
        await content(api.pool, digest(OWN))
    assert await content(api.pool, digest(BOTH)) == BOTH
    (command, *_) = (await fleet.http.get("/commands", params={"agent_id": agent_id, "limit": 50})).json()["items"][
        ::-1
    ]
    answer = await fleet.http.get(f"/commands/{command['id']}/output")
    assert (answer.status_code, answer.json()["code"]) == (410, "output_removed")
    assert await erase_outputs(api.pool, api.log) == 0
    assert len(await told(api)) == 1
    # Should the same bytes come again, from somebody else, they are kept again.
    await OutputStore(api.pool).put_inline([inline(OWN)])
    assert await content(api.pool, digest(OWN)) == OWN
    await asyncio.to_thread(signed, postgres_url)
    assert (await asyncio.to_thread(_verified, postgres_url)).finding is None


def _verified(url: str) -> Any:
    with connect(url) as connection, connection.transaction():
        return verified(connection)


async def test_nothing_goes_before_it_is_known_what_others_printed(api: Api, fleet: Fleet) -> None:
    """While the read model is behind the erasure, the next run has it; two that run at once record it once."""
    agent_id = await erased(api, fleet)
    async with api.pool.connection() as connection:
        await connection.execute(
            "UPDATE read.tracking SET position = 1, status = 'stopped' WHERE projection = 'commands'"
        )
    assert await erase_outputs(api.pool, api.log) == 0
    assert await told(api) == []
    assert await content(api.pool, digest(OWN)) == OWN
    head = await api.log.head()
    async with api.pool.connection() as connection:
        await connection.execute(
            "UPDATE read.tracking SET position = %s, status = 'running' WHERE projection = 'commands'", [head]
        )
    assert sum(await asyncio.gather(*(erase_outputs(api.pool, api.log) for _ in range(2)))) == 1
    assert [one[0] for one in await told(api)] == [agent_id]


async def test_the_worker_sees_to_it(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """As one of its jobs, every ten minutes."""
    await erased(api, fleet)
    (job,) = [job for job in all_jobs(postgres_url) if job.name == "erase_outputs"]
    assert await asyncio.to_thread(job.run) == {"removed": 1}
