"""A projector, or a rebuild, in a process of its own, to be killed.

    python -m tests.projections.process CONNINFO [STEP PAGE]
    python -m tests.projections.process CONNINFO replaced 1 PROJECTION

Told a step, it halts for ever at that step of that page, inside of the page's transaction, and says so: the test
then kills it at a place that it chose and not where luck would have it.
"""

import asyncio
import sys
import threading
from typing import Any

from projections import tracking
from projections.rebuild import rebuild
from projections.runner import Projector

PAGE_SIZE = 20
FOLDED = "folded"
"""The rows are written, the tracking rows not yet."""
ADVANCED = "advanced"
"""Rows and tracking rows are written; nothing is committed."""
REPLACED = "replaced"
"""A rebuild has dropped the live tables and put its own in their place; nothing is committed."""


def halt_at(step: str, page: int) -> None:
    name = "replaced" if step == REPLACED else "advance_and_tell"
    real = getattr(tracking, name)
    seen = 0

    def counted(*arguments: Any, **named: Any) -> None:
        nonlocal seen
        seen += 1
        if step == ADVANCED:
            real(*arguments, **named)
        if seen == page:
            print("halted", flush=True)  # noqa: T201 - the test waits for it
            threading.Event().wait()
        if step != ADVANCED:
            real(*arguments, **named)

    setattr(tracking, name, counted)


async def main() -> None:
    conninfo, *place = sys.argv[1:]
    if place:
        halt_at(place[0], int(place[1]))
    if place[2:]:
        rebuild(conninfo, place[2])
        return
    projector = Projector(conninfo, page_size=PAGE_SIZE)
    await projector.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
