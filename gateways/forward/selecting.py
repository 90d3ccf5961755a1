"""Which events go to a destination: a filter over the log, in order.

What belongs to a site is what its machines did while they were there. Where a machine was is told by the log itself up
to an event, so what passes depends on nothing but the log and the filter: sent once more, it is the same. A move
concerns both sites, unless they are different clients': then it is the other one's affair alone (invariant 8).
"""

from typing import Any
from uuid import UUID

from command_bus.event_log import EventLog, Selection
from domain.agents import AgentEnrolled, AgentMoved
from domain.codec import decode_or_keep
from domain.destinations import EventFilter
from schema.archive import Row

PAGE = 1000
_MOVES = (AgentEnrolled.__name__, AgentMoved.__name__)


class Selecting:
    """Reads what passes a filter.

    Args:
        log: the event log.
        only: the filter.
    """

    def __init__(self, log: EventLog, only: EventFilter) -> None:
        self._log = log
        self._types = frozenset(only.types)
        self._clients = frozenset(only.clients)
        self._sites = frozenset(place.site_id for place in only.sites)
        self._here: dict[UUID, UUID] = {}
        """The machines that are at one of the sites, as of where it has read to, and the site's client."""
        tenants = (*only.clients, *(place.client_id for place in only.sites))
        self._selection = Selection(types=only.types or None, client_ids=tuple(dict.fromkeys(tenants)) or None)

    async def begin(self, position: int) -> None:
        """Be where the log was at a position."""
        self._here.clear()
        for row in await self._moves(0, position):
            self._follow(row)

    async def _moves(self, after: int, upto: int) -> list[Row]:
        """All moves of machines, whosever they are: one that leaves for another client is that client's event."""
        found: list[Row] = []
        while self._sites:
            rows = await self._log.read_rows(Selection(types=_MOVES), after=after, upto=upto, limit=PAGE)
            found += rows
            if len(rows) < PAGE:
                break
            after = rows[-1][0]
        return found

    async def page(self, after: int, upto: int, limit: int) -> tuple[list[Row], int]:
        """The next events that pass.

        Args:
            after: only later ones than this position, which is where it was left.
            upto: none after this position; all up to it can be read.
            limit: look at so many at the most.

        Returns:
            Those that pass, and the position that was looked at up to.
        """
        rows = await self._log.read_rows(self._selection, after=after, upto=upto, limit=limit)
        reached = rows[-1][0] if len(rows) == limit else upto
        by_position = {row[0]: row for row in (*rows, *await self._moves(after, reached))}
        wanted = {row[0] for row in rows}
        passing = []
        for position in sorted(by_position):
            row = by_position[position]
            if self._passes(row) and position in wanted:
                passing.append(row)
        return passing, reached

    def _passes(self, row: Row) -> bool:
        position, stream_id, _, topic, *_, agent_id, client_id = row
        del position
        was_with = self._here.get(agent_id)
        self._follow(row)
        if self._types and topic.partition("/")[0] not in self._types:
            return False
        if not (self._clients or self._sites):
            return True
        if client_id in self._clients or stream_id in self._sites:
            return True
        return client_id is not None and client_id in (was_with, self._here.get(agent_id))

    def _follow(self, row: Row) -> None:
        _, stream_id, _, topic, state, *_ = row
        if not self._sites or topic.partition("/")[0] not in _MOVES:
            return
        event: Any = decode_or_keep(topic, state)
        if isinstance(event, AgentEnrolled | AgentMoved):
            if event.site_id in self._sites:
                self._here[stream_id] = event.client_id
            else:
                self._here.pop(stream_id, None)
