"""One machine as of an earlier position, by the very folds that make the tables, of its own events alone.

What a replay answers for the whole fleet, this answers for a single thing, at once: its rows are made in memory, and
nothing is written. They are those that a replay at that position holds (`projections.replays`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from domain.checks import AgentCheckChanged, AgentCheckEnded, CheckState
from domain.event import Recorded
from projections.agents import AgentDetail, Agents
from projections.clients import Clients
from projections.pages import Tenants
from projections.pending import Pending, PendingRow, place_in_queue
from projections.projection import Cells, document

_AGENTS, _PENDING, _CLIENTS = Agents(), Pending(), Clients()
TOLD = tuple(sorted(_AGENTS.types))
"""The events that an agent's row is made of."""
ENDED = frozenset(event_type.__name__ for event_type in Pending.ends)
TURNS = ("CommandQueued", *sorted(ENDED))
"""The events by which a command comes into the queue, and leaves it."""


def agent_then(agent_id: UUID, story: Sequence[Recorded], places: Iterable[Recorded]) -> AgentDetail | None:
    """The agent's row; None if there was none.

    Args:
        agent_id: whose.
        story: its events of the types `TOLD` up to the position, oldest first.
        places: those of its client and its site up to there, for their names.
    """
    cells = _row(_AGENTS.begin(), "agents", agent_id, story)
    if cells is None:
        return None
    named = _CLIENTS.begin()
    named.fold(places)
    client, site = named["clients"].made(cells["client_id"]), named["sites"].made(cells["site_id"])
    names = {"client": client["name"] if client else None, "site": site["name"] if site else None}
    agent: AgentDetail = _made(AgentDetail, cells | names | _found_then(story))
    return agent


def _found_then(story: Iterable[Recorded]) -> dict[str, int]:
    """How many checks found what."""
    states: dict[UUID, CheckState] = {}
    for recorded in story:
        match recorded.event:
            case AgentCheckChanged(state=state):
                states[recorded.originator_id] = state
            case AgentCheckEnded():
                states.pop(recorded.originator_id, None)
    found = Counter(states.values())
    return {state.value: found[state] for state in (CheckState.FAILING, CheckState.WARNING)}


def place_then(agent_id: UUID, story: Iterable[Recorded]) -> tuple[UUID, UUID] | None:
    """The client and the site at which it was; None if there was no such agent."""
    cells = _row(_AGENTS.begin(), "agents", agent_id, story)
    return None if cells is None else (cells["client_id"], cells["site_id"])


def queue_then(stories: Iterable[Sequence[Recorded]]) -> list[PendingRow]:
    """What was pending, in the order of delivery.

    Args:
        stories: each command's events up to the position, oldest first; of those that had not ended by then.
    """
    rows = []
    for story in stories:
        cells = _row(_PENDING.begin(), "pending", story[0].originator_id, story)
        if cells is not None:
            rows.append(_made(PendingRow, cells))
    return sorted(rows, key=place_in_queue)


def seen_then(scope: Tenants, client_id: UUID, site_now: UUID | None) -> bool:
    """Whether a row of then lies within a scope of now, as lists of replays judge it (`pages.OfPast`).

    Args:
        scope: what may be seen; None is all.
        client_id: of the row, as of then.
        site_now: where the machine is now; None if it is nowhere.
    """
    if scope is None or scope.everything or client_id in scope.clients:
        return True
    return client_id in scope.known_clients and site_now in scope.site_ids


def _row(batch: Any, table: str, key: UUID, story: Iterable[Recorded]) -> Cells | None:
    batch.fold(story)
    made: Cells | None = batch[table].made(key)
    return made


def _made(row: Any, cells: Cells) -> Any:
    """A row of these cells, as reading it from its table gives it; what no column holds is as the row has it."""
    return row(**{name: _kept(cells[name]) for name in row.__struct_fields__ if name in cells})


def _kept(value: Any) -> Any:
    """As a table holds it, which knows no NUL."""
    return msgspec.json.decode(document(value)) if type(value) in (str, dict) else value
