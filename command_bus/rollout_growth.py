"""Who joins an open rollout: agents that enroll, or come to match its target, while it is open.

The read model of agents says which of them changed after a log position, so that a look costs what changed and not what
there is. Where the last look was is kept in memory alone: whoever takes over looks again from where the list was made,
and the rollout itself knows who is in it already.
"""

from datetime import datetime
from typing import Protocol

from command_bus.event_log import EventLog
from command_bus.handlers.commands import Pinned
from command_bus.handlers.rollouts import why_not
from command_bus.handlers.scripts import ScriptShelf
from domain.commands import RunScript, RunShell, Spec
from domain.event import Change
from domain.rollout_candidates import Joined
from domain.rollout_terms import Joins, Target
from domain.rollouts import Rollout

LOOKED_AT_ONCE = 2_000


class GrowthReads(Protocol):
    async def joined(
        self, target: Target, joins: Joins, *, after: int, until: datetime | None, limit: int, timezone: bool = False
    ) -> Joined:
        """Agents that a target names, and to whom something happened after a position.

        Args:
            target: of the rollout.
            joins: whose agents may be.
            after: the position.
            until: only what was recorded before this moment; None: all so far.
            limit: at most so many.
            timezone: read what they tell of it, too.
        """


class Growth:
    """Finds who joins.

    Args:
        log: scripts are read from it.
        reads: the read model of agents.
    """

    def __init__(self, log: EventLog, reads: GrowthReads) -> None:
        self._reads = reads
        self._scripts = ScriptShelf(log)

    async def look(self, rollout: Rollout, looked_upto: int, now: datetime) -> tuple[list[Change], int]:
        """Decide who joins by what happened since the last look.

        Args:
            rollout: an open one.
            looked_upto: where the last look ended; 0 if there was none.
            now: once its time is up, the last of what happened in time is looked at, and it is closed.

        Returns:
            What to record, and where this look ended.
        """
        joins, until = rollout.started.joins, rollout.open_until
        if joins is None or until is None:
            return [], looked_upto
        over = now >= until
        found = await self._reads.joined(
            rollout.started.target,
            joins,
            after=max(joins.after, looked_upto),
            until=until if over else None,
            limit=LOOKED_AT_ONCE,
            timezone=rollout.started.order.needs_timezone,
        )
        changes: list[Change] = []
        if found.candidates:
            pinned = await self._pinned(rollout.started.order.spec)
            target, order = rollout.started.target, rollout.started.order
            fit = [one for one in found.candidates if why_not(target, order, one, pinned) is None]
            changes = rollout.grow((one.agent_id, one.client_id, one.site_id) for one in fit)
        if over and found.all:
            changes.append(rollout.close("its time is up"))
        return changes, found.upto

    async def _pinned(self, spec: Spec) -> Pinned:
        match spec:
            case RunScript():
                script = await self._scripts.get(spec.script_id)
                revision = script.revisions[spec.revision - 1]
                return Pinned(spec, revision.shell, revision, script.name)
            case RunShell():
                return Pinned(spec, spec.shell)
            case _:
                return Pinned(spec)
