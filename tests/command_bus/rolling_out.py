"""A fan-out in a process of its own, to be killed.

    python -m tests.command_bus.rolling_out URL

Turns as fast as it can, in small steps, until it is killed; says so when the first turn is over.
"""

import asyncio
import sys

from command_bus import rollouts
from command_bus.ids import new_id, utc_now
from command_bus.postgres import open_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.rollouts import FanOut
from gateways.agents.leases import Holds
from projections.catalog import INLINE
from projections.rollout_reads import RolloutReader

BATCH = 7


class Impatient:
    """Never waits for the read models: an old count must do no harm."""

    def position(self) -> int:
        return 0

    async def wait_beyond(self, position: int, timeout_s: float) -> None:
        del position, timeout_s
        await asyncio.sleep(0)


async def main(url: str) -> None:
    rollouts.BATCH = BATCH
    log = PostgresEventLog(url, inline=INLINE, name="rolling-out")
    await log.start()
    pool = await open_pool(url, name="rolling-out")
    fan_out = FanOut(log, Holds(pool), RolloutReader(pool.connection), Impatient(), new_id)
    while True:
        await fan_out.turn(utc_now())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
