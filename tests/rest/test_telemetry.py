"""How busy machines were: believed within bounds, written together, read in as many points as are asked for."""

import math
from datetime import UTC, datetime, timedelta
from uuid import UUID

from domain.ids import AgentId
from gateways.agents.telemetry import MOST_OF_HOUR, Telemetry, purge_telemetry
from schema.wire import MAX_SAMPLES, Sample
from tests.rest.harness import Api, Fleet

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def sample(minutes_ago: float, cpu: float | None = 10.0, disk: float | None = 80.0) -> Sample:
    at = NOW - timedelta(minutes=minutes_ago)
    return Sample(at=at, cpu_percent=cpu, memory_percent=50.04, disk_percent=disk)


async def test_samples_of_several_processes_make_one_picture(fleet: Fleet) -> None:
    """Each step has the average, the most of the processor, and nothing of what no sample says."""
    agent_id = await fleet.agent("web-01")
    key = AgentId(UUID(agent_id))
    one, other = [Telemetry(fleet.api.pool, lambda: NOW) for _ in range(2)]
    one.add(key, [sample(65, cpu=20), sample(64, cpu=40)])
    await one.flush()
    other.add(key, [sample(63, cpu=None), sample(2, cpu=99.96, disk=None)])
    one.add(key, [sample(1, cpu=0, disk=None)])
    await other.flush()
    await one.flush()
    span = f"since={(NOW - timedelta(minutes=70)).isoformat()}&until={NOW.isoformat()}".replace("+00:00", "Z")
    told = (await fleet.http.get(f"/agents/{agent_id}/telemetry?{span}&points=7")).json()
    assert told["step_s"] == 600
    assert told["points"] == [
        {"at": "2026-05-01T11:20:00Z", "cpu": 30.0, "cpu_most": 40.0, "memory": 50.0, "disk": 80.0},
        {"at": "2026-05-01T12:20:00Z", "cpu": 50.0, "cpu_most": 100.0, "memory": 50.0, "disk": None},
    ]
    fine = (await fleet.http.get(f"/agents/{agent_id}/telemetry?{span}&points=1000")).json()
    assert (fine["step_s"], len(fine["points"])) == (60, 5)
    http = fleet.api.client(check=False)
    wrong = await http.get(f"/agents/{agent_id}/telemetry?since=2026-05-02T00:00:00Z&until=2026-05-01T00:00:00Z")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "telemetry_period")


async def test_what_cannot_be_is_not_kept(api: Api, fleet: Fleet) -> None:
    """Another time than about now, no number, more than an hour has: an agent's word counts within bounds."""
    key = AgentId(UUID(await fleet.agent("web-01")))
    telemetry = Telemetry(api.pool, lambda: NOW)
    telemetry.add(key, [sample(60 * 24), sample(-60), sample(3, cpu=math.nan), sample(2, cpu=-3), sample(1, cpu=101)])
    await telemetry.flush()
    async with api.pool.connection() as connection:
        ((numbers,),) = await (await connection.execute("SELECT samples FROM fleetlog.telemetry")).fetchall()
    assert numbers[1::4] == [-1, -1, -1]
    assert numbers[::4] == [27 * 60, 28 * 60, 29 * 60]
    for _ in range(6):
        telemetry.add(key, [sample(5)] * 70)
        await telemetry.flush()
    async with api.pool.connection() as connection:
        ((count,),) = await (
            await connection.execute("SELECT cardinality(samples) / 4 FROM fleetlog.telemetry")
        ).fetchall()
    assert MOST_OF_HOUR <= count < MOST_OF_HOUR + MAX_SAMPLES
    assert await purge_telemetry(api.pool, timedelta(days=36500)) == 0
    # The samples are of May 2026, and today is later.
    assert await purge_telemetry(api.pool, timedelta(hours=1)) == 1
