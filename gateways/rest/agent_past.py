"""One machine as of a position at which no replay stands: worked out from its own events, for who looks at it alone."""

from uuid import UUID

import msgspec

from command_bus.event_log import EventLog, Selection
from domain.event import Recorded
from gateways.rest.route import Call
from projections.agent_past import ENDED, TOLD, TURNS, agent_then, place_then, queue_then, seen_then
from projections.agents import AgentDetail, get_agent
from projections.errors import NoReplayError
from projections.pending import PendingRow
from projections.replays import no_replay

PAGE = 1000
MOST_TOLD = 20_000
"""So many events of the machine itself are folded; and"""
MOST_TURNS = 100_000
"""so many of its commands' beginnings and endings are looked through. Who has more asks a replay."""


class Then(msgspec.Struct, frozen=True):
    """A machine, and what waited for it, as of a position."""

    agent: AgentDetail
    queue: list[PendingRow]
    """All of it, in the order of delivery."""
    site_now: UUID | None

    def pending(self, call: Call) -> list[PendingRow]:
        """What the caller may see of its queue."""
        return [row for row in self.queue if seen_then(call.tenants, row.client_id, self.site_now)]


async def then(call: Call, agent_id: UUID) -> Then | None:
    """What the machine was as of the position that is asked for; None if there was none that the caller may see.

    Raises:
        NoReplayError: so much has happened to it by then that only a replay answers.
    """
    log, upto = call.parts.log, call.at or 0
    story = await _story(log, agent_id, upto)
    place = place_then(agent_id, story)
    if place is None:
        return None
    async with call.connection_now() as connection:
        now = await get_agent(connection, agent_id, client_ids=None)
    site_now = now.site_id if now is not None else None
    if not seen_then(call.tenants, place[0], site_now):
        return None
    streams = await log.read_streams([*place, *await _open(log, agent_id, upto)])
    stories = {stream: [one for one in events if one.position <= upto] for stream, events in streams.items()}
    places = [one for stream in place for one in stories.pop(stream, [])]
    agent = agent_then(agent_id, story, places)
    return None if agent is None else Then(agent, queue_then(stories.values()), site_now)


async def _story(log: EventLog, agent_id: UUID, upto: int) -> list[Recorded]:
    found: list[Recorded] = []
    selection, after = Selection(agent_id=agent_id, types=TOLD), 0
    while True:
        page = await log.read(selection, after=after, upto=upto, limit=PAGE)
        found += page
        if len(page) < PAGE:
            return found
        if len(found) >= MOST_TOLD:
            raise _too_much(upto)
        after = page[-1].position


async def _open(log: EventLog, agent_id: UUID, upto: int) -> list[UUID]:
    """The commands that were queued by then and had not ended."""
    found: dict[UUID, None] = {}
    selection, after, seen = Selection(agent_id=agent_id, types=TURNS), 0, 0
    while True:
        page = await log.read_rows(selection, after=after, upto=upto, limit=PAGE)
        for row in page:
            if row[3].partition("/")[0] in ENDED:
                found.pop(row[1], None)
            else:
                found[row[1]] = None
        seen += len(page)
        if len(page) < PAGE:
            return list(found)
        if seen >= MOST_TURNS:
            raise _too_much(upto)
        after = page[-1][0]


def _too_much(position: int) -> NoReplayError:
    return NoReplayError(f"Too much has happened to this machine to work it out at once. {no_replay(position)}")
