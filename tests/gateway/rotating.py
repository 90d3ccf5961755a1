"""`fleetlog server-keys` as a process that is killed by its own hand at a named step."""

import asyncio
import os
import signal
import sys

from command_bus.ids import new_id
from command_bus.postgres_log import PostgresEventLog
from domain.server_keys import Purpose
from gateways.agents.key_changes import KeyChanges
from projections.agents import Unaware
from projections.catalog import INLINE


async def main(url: str, action: str, purpose: Purpose, crash_at: str) -> None:
    def steps(step: str) -> None:
        if step == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    log = PostgresEventLog(url, inline=INLINE, name="rotating")
    await log.start()
    changes = KeyChanges(log, url, new_id, steps=steps)
    if action == "rotate":
        await changes.rotate(purpose)
    else:
        await changes.retire(purpose, lambda _: Unaware(0, 0, []))
    await log.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Purpose(sys.argv[3]), sys.argv[4]))
