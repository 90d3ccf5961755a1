"""What is shown of rollouts adds up, whenever one looks."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from domain.commands import state_after
from domain.event import Recorded
from domain.rollout_events import RolloutAdvanced, RolloutGrown, RolloutRetried, RolloutStarted, RolloutTargeted
from domain.rollouts import command_id
from projections.catalog import FOLLOWING
from projections.paging import fold_page
from projections.rollouts import SKIPPED, WAITING, count_recent, count_states, get_rollout, list_sites
from tests.projections.database import forget_everything, head, positions, record
from tests.projections.histories import Fleet


class Told:
    """What became of each agent of each rollout, by the events alone."""

    def __init__(self) -> None:
        self.started: set[UUID] = set()
        self.parts: defaultdict[UUID, dict[UUID, dict[str, Any]]] = defaultdict(dict)
        self._of_command: dict[UUID, dict[str, Any]] = {}

    def tell(self, recorded: Recorded) -> None:
        event, stream_id = recorded.event, recorded.originator_id
        match event:
            case RolloutStarted():
                self.started.add(stream_id)
            case RolloutTargeted(entries=entries) | RolloutRetried(entries=entries) | RolloutGrown(entries=entries):
                for entry in entries:
                    part = {"state": WAITING, "wave": entry.wave, "site": entry.site_id}
                    self.parts[stream_id][entry.agent_id] = part
                    self._of_command[command_id(stream_id, entry.agent_id, entry.round)] = part
            case RolloutAdvanced(skipped=skipped):
                for skip in skipped:
                    self.parts[stream_id][skip.agent_id]["state"] = SKIPPED
            case _:
                state = state_after(event)
                if state is not None and stream_id in self._of_command:
                    self._of_command[stream_id]["state"] = state.value

    def counted(self, rollout_id: UUID, *by: str) -> Counter[Any]:
        return Counter(tuple(part[name] for name in by) for part in self.parts[rollout_id].values())


async def story(url: str) -> Sequence[Recorded]:
    log = PostgresEventLog(url, name="story")
    await log.start()
    try:
        return await log.read(limit=10_000)
    finally:
        await log.stop()


async def shown(url: str, rollout_id: UUID, told: Told) -> None:
    """Compare what is shown with what was told."""
    async with await psycopg.AsyncConnection.connect(app_conninfo(url)) as connection:
        row = await get_rollout(connection, rollout_id, client_ids=None)
        waves = await count_states(connection, rollout_id)
        sites, cursor = [], None
        while True:
            page = await list_sites(connection, rollout_id, cursor=cursor, limit=2)
            sites += page.items
            if (cursor := page.next) is None:
                break
        assert row is not None
        since = row.started_at - timedelta(days=1)
        recent = await count_recent(connection, rollout_id, since=since, until=row.started_at + timedelta(days=1))
    per_wave = Counter({(wave, state): count for wave, states in waves.items() for state, count in states.items()})
    per_site = Counter({(site.site_id, state): count for site in sites for state, count in site.counts.items()})
    assert per_wave.total() == per_site.total() == row.targeted == sum(row.wave_sizes)
    assert [sum(waves[wave].values()) for wave in range(len(row.wave_sizes))] == row.wave_sizes
    assert per_wave == told.counted(rollout_id, "wave", "state")
    assert per_site == told.counted(rollout_id, "site", "state")
    open_ = {WAITING, SKIPPED, "queued", "delivered", "running"}
    assert recent == sum(count for (_, state), count in per_wave.items() if state not in open_)


@given(seed=st.integers(0, 2**32), steps=st.integers(40, 120))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_counts_add_up_at_every_moment(postgres_url: str, seed: int, steps: int) -> None:
    """Retried, skipped, aborted or grown: wherever the read model stands, each agent is counted once, as it is."""
    forget_everything(postgres_url)
    fleet, sizes, told = Fleet(seed, rollouts=4), random.Random(seed), Told()
    asyncio.run(record(postgres_url, ((changes, fleet.metadata()) for changes in fleet.history(steps))))
    untold = list(asyncio.run(story(postgres_url)))
    with psycopg.connect(app_conninfo(postgres_url), autocommit=True) as connection:
        while untold:
            fold_page(connection, FOLLOWING, sizes.randint(1, 60))
            position = positions(postgres_url)["rollouts"]
            while untold and untold[0].position <= position:
                told.tell(untold.pop(0))
            for rollout_id in told.started:
                asyncio.run(shown(postgres_url, rollout_id, told))
    assert positions(postgres_url)["rollouts"] == head(postgres_url)
