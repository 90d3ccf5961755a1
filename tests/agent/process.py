"""An agent process for the fault tests: as `fleetlog agent run`, but killed by its own hand at a named step."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from agent.link import Timing
from agent.patching import RESTART_TAKES_S
from agent.platforms import PLATFORM
from agent.refusals import WINDOW_S
from agent.service import Agent


async def main(state_dir: Path, crash_at: str, transport: str) -> None:
    def steps(step: str) -> None:
        if step == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if boot_id := os.environ.get("BOOT_ID"):
        PLATFORM.boot_id = lambda: boot_id  # type: ignore[method-assign]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    timing = Timing(first_wait_s=0.2, most_wait_s=0.5)
    agent = Agent(
        state_dir,
        transport=transport,
        timing=timing,
        steps=steps,
        reserve_bytes=0,
        stop_grace_s=0.5,
        refusals_window_s=float(os.environ.get("REFUSALS_WINDOW_S", WINDOW_S)),
        restart_takes_s=float(os.environ.get("RESTART_TAKES_S", RESTART_TAKES_S)),
    )
    await agent.run(stop)


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "nats"))
