"""What the commands of an erased agent printed goes with it, and nothing of anybody else's."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from command_bus.event_log import LogUnavailableError, Selection
from command_bus.ids import new_id
from command_bus.postgres import AsyncPool
from command_bus.postgres_log import PostgresEventLog
from domain.commands import CommandState, Result, Stream
from domain.erasures import OutputsErased
from domain.event import Change, Metadata
from domain.ids import AgentId, ClientId, CommandId
from domain.strays import Stray, StrayResultRecorded
from gateways.agents import erased_outputs
from gateways.agents.erased_outputs import erase_outputs
from gateways.agents.outputs import OutputRemovedError, OutputStore
from gateways.local.jobs import all_jobs
from projections.commands import outputs_of_others
from tests.audit.chaining import connect, signed, verified
from tests.gateway.test_outputs import content, digest, inline
from tests.rest.conftest import api, fleet
from tests.rest.gains import ASKS, waits
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


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was under way at the first look is over by the second, and a read model that lags is not waited for."""
    monkeypatch.setattr(erased_outputs, "SETTLED", timedelta(), raising=False)
    monkeypatch.setattr(erased_outputs, "WAIT_S", 0.5, raising=False)


class Away(PostgresEventLog):
    """A log that is away when it is to be written to."""

    async def append(self, changes: Sequence[Change], metadata: Metadata) -> list[int]:
        del changes, metadata
        raise LogUnavailableError


async def folded(api: Api) -> None:
    await api.waiter.wait(await api.log.head(), ["commands"], 10)


async def run(api: Api, times: int = 2) -> list[int]:
    """Runs of the job, each of which knows what was recorded before it."""
    await folded(api)
    return [await erase_outputs(api.pool, api.log) for _ in range(times)]


async def prints(fleet: Fleet, agent_id: str, raw: bytes) -> None:
    """Its result is recorded; what it printed was stored before."""
    await fleet.finish(agent_id, await fleet.command(agent_id), stdout=inline(raw))


async def data_of(pool: AsyncPool, raw: bytes) -> int:
    """How many pieces of an output are there, whether it can be read or not."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM fleetlog.output_chunks WHERE sha256 = %s", [bytes.fromhex(digest(raw))]
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def follow(api: Api, position: int, status: str) -> None:
    """Have the projection of commands stand at a position."""
    async with api.pool.connection() as connection:
        await connection.execute(
            "UPDATE read.tracking SET position = %s, status = %s WHERE projection = 'commands'", [position, status]
        )


async def test_an_erased_agents_outputs_are_gone_and_others_stay(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """Each once, on record, with the chain as it was; what another machine printed as well is that one's."""
    assert await erase_outputs(api.pool, api.log) == 0
    agent_id = await erased(api, fleet)
    assert await run(api) == [0, 1]
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
    await follow(api, 1, "stopped")
    assert await erase_outputs(api.pool, api.log) == 0
    assert await told(api) == []
    assert await content(api.pool, digest(OWN)) == OWN
    await follow(api, await api.log.head(), "running")
    assert await run(api, 1) == [0]
    assert sum(await asyncio.gather(*(erase_outputs(api.pool, api.log) for _ in range(2)))) == 1
    assert [one[0] for one in await told(api)] == [agent_id]


async def test_the_worker_sees_to_it(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """As one of its jobs: marked by one run, gone by a later one."""
    await erased(api, fleet)
    (job,) = [job for job in all_jobs(postgres_url) if job.name == "erase_outputs"]
    assert await asyncio.to_thread(job.run) == {"removed": 0}
    assert await asyncio.to_thread(job.run) == {"removed": 1}


async def test_what_the_read_model_does_not_know_yet_is_waited_for(api: Api, fleet: Fleet) -> None:
    """Another machine's result that came after the erasure, and is not folded yet, keeps what it names."""
    agent_id, other = await erased(api, fleet), await fleet.agent("late")
    command_id = await fleet.command(other)
    await folded(api)
    position = await api.log.head()
    await follow(api, position, "stopped")
    await fleet.finish(other, command_id, stdout=inline(OWN))
    assert [await erase_outputs(api.pool, api.log) for _ in range(3)] == [0, 0, 0]
    assert (await content(api.pool, digest(OWN)), await told(api)) == (OWN, [])
    await follow(api, position, "running")
    assert await run(api) == [0, 0]
    assert (await content(api.pool, digest(OWN)), await told(api)) == (OWN, [(agent_id, 0, 0)])


async def test_what_was_stored_before_the_first_look_is_found_by_the_second(api: Api, fleet: Fleet) -> None:
    """A result that is recorded after its output was marked takes the mark away."""
    agent_id, other = await erased(api, fleet), await fleet.agent("under way")
    await OutputStore(api.pool).put_inline([inline(OWN)])
    assert await run(api, 1) == [0]
    with pytest.raises(OutputRemovedError, match="erased"):
        await content(api.pool, digest(OWN))
    await prints(fleet, other, OWN)
    assert await run(api) == [0, 0]
    assert (await content(api.pool, digest(OWN)), await told(api)) == (OWN, [(agent_id, 0, 0)])


async def test_nothing_is_deleted_before_what_was_under_way_must_be_over(
    api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it is marked, reads as erased, and its data are there to be given back."""
    await erased(api, fleet)
    monkeypatch.setattr(erased_outputs, "SETTLED", timedelta(hours=1))
    assert await run(api, 3) == [0, 0, 0]
    with pytest.raises(OutputRemovedError, match="erased"):
        await content(api.pool, digest(OWN))
    assert (await data_of(api.pool, OWN), await told(api)) == (1, [])


async def test_what_is_stored_again_after_the_first_look_is_looked_at_again(api: Api, fleet: Fleet) -> None:
    """By whoever has not recorded it yet: it stays if they do, and goes if they never do."""
    agent_id, other = await erased(api, fleet), await fleet.agent("again")
    assert await run(api, 1) == [0]
    await OutputStore(api.pool).put_inline([inline(OWN)])
    assert await run(api, 1) == [0]
    assert (await content(api.pool, digest(OWN)), await told(api)) == (OWN, [])
    await prints(fleet, other, OWN)
    assert await run(api) == [0, 0]
    assert (await content(api.pool, digest(OWN)), await told(api)) == (OWN, [(agent_id, 0, 0)])


async def test_what_is_stored_again_and_never_named_goes(api: Api, fleet: Fleet) -> None:
    """It costs two runs more."""
    agent_id = await erased(api, fleet)
    assert await run(api, 1) == [0]
    await OutputStore(api.pool).put_inline([inline(OWN)])
    assert await run(api, 3) == [0, 0, 1]
    assert (await data_of(api.pool, OWN), await told(api)) == (0, [(agent_id, 1, len(OWN))])


async def test_what_anothers_earlier_attempt_printed_stays(api: Api, fleet: Fleet) -> None:
    """It was tried again since, so the read model of commands has another result."""
    agent_id, other = await erased(api, fleet), await fleet.agent("tries again")
    command_id = await fleet.command(other, retry={"max_attempts": 3, "on": ["timed_out"], "backoff_s": 0})
    await fleet.finish(other, command_id, "timed_out", stdout=inline(OWN))
    assert [one.agent_id for one in await api.log.read(Selection(types=("CommandRequeued",)))] == [UUID(other)]
    await fleet.finish(other, command_id, attempt=2, stdout=inline(BOTH))
    assert await run(api) == [0, 0]
    assert (await content(api.pool, digest(OWN)), await told(api)) == (OWN, [(agent_id, 0, 0)])


async def test_what_a_command_that_the_log_does_not_know_printed_stays(api: Api, fleet: Fleet) -> None:
    """It was ordered after the backup that the log was restored from, and is in no read model."""
    agent_id, other = await erased(api, fleet), await fleet.agent("stray")
    stray = StrayResultRecorded(
        command_id=CommandId(new_id()),
        agent_id=AgentId(UUID(other)),
        client_id=ClientId(UUID(fleet.client_id)),
        attempt=1,
        outcome=CommandState.SUCCEEDED,
        result=Result(stderr=Stream(size=len(OWN), sha256=digest(OWN))),
    )
    await api.log.append(Stray.of(stray.command_id, 1).record(stray), Metadata(actor="system", correlation_id=new_id()))
    assert await run(api) == [0, 0]
    assert (await content(api.pool, digest(OWN)), await told(api)) == (OWN, [(agent_id, 0, 0)])


async def test_what_only_erased_machines_printed_goes_by_one_look_for_all_of_them(
    api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None waits for another, and none is kept for the sake of one that was erased as well."""
    looks = []

    async def counted(*arguments: Any) -> set[str]:
        looks.append(arguments)
        return await outputs_of_others(*arguments)

    monkeypatch.setattr(erased_outputs, "outputs_of_others", counted)
    for _ in range(2):
        await erased(api, fleet)
    for agent in (await fleet.http.get("/agents", params={"limit": 50})).json()["items"]:
        if agent["name"] == "other":
            await made(fleet.http, f"/agents/{agent['id']}/retire", {})
            await made(fleet.http, f"/agents/{agent['id']}/erase", {})
    assert await run(api) == [0, 2]
    assert (await data_of(api.pool, OWN), await data_of(api.pool, BOTH)) == (0, 0)
    assert (len(looks), len(await told(api))) == (2, 4)
    assert sum(size for _, _, size in await told(api)) == len(OWN) + len(BOTH)


async def test_a_run_that_was_cut_is_gone_on_with_and_told_whole(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """What is gone and not on record yet is in a table, so what the log says is all of it."""
    agent_id = await erased(api, fleet)
    away = Away(postgres_url, name="test")
    await away.start()
    try:
        assert await erase_outputs(api.pool, away) == 0
        with pytest.raises(LogUnavailableError):
            await erase_outputs(api.pool, away)
    finally:
        await away.stop()
    assert (await data_of(api.pool, OWN), await told(api)) == (0, [])
    assert await run(api) == [0, 0]
    assert await told(api) == [(agent_id, 1, len(OWN))]


async def test_a_machine_that_was_not_let_in_had_no_outputs(api: Api, fleet: Fleet) -> None:
    """Of its erasure nothing is said about outputs."""
    token = await made(fleet.http, "/enrollment-tokens", {"site_id": fleet.site_id} | ASKS)
    enrollment_id = await waits(api, token["token"], "guest")
    await made(fleet.http, "/enrollments/refuse", {"enrollments": [enrollment_id]})
    await made(fleet.http, f"/enrollments/{enrollment_id}/erase", {})
    assert len(await api.log.read(Selection(types=("SubjectErased",)))) == 1
    assert await run(api) == [0, 0]
    assert await told(api) == []
