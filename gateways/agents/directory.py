"""Who the agents are, as far as a gateway must know at each message: key, state and tenant.

Read from the log itself and not from a projection, so that an agent that enrolled or was suspended a moment ago is
known as what it is now; then remembered until an event says otherwise.
"""

from collections.abc import Iterable
from uuid import UUID

import msgspec
import structlog

from command_bus.event_log import EventLog
from command_bus.repository import UnreadableStoryError, must_be_readable
from domain.agents import Agent, AgentState, Platform
from domain.duplicates import Duplicates, duplicates_stream
from domain.errors import AgentRetiredError, AgentSuspendedError, DomainError
from domain.event import Recorded
from domain.ids import AgentId, ClientId, SiteId
from gateways.agents.batches import Batcher

_log = structlog.get_logger()
MAX_ENTRIES = 200_000


class UnknownAgentError(DomainError):
    """There is no such agent; enroll the machine."""

    code = "unknown_agent"
    status = 403


class Entry(msgspec.Struct, frozen=True):
    """One agent."""

    agent_id: AgentId
    client_id: ClientId
    site_id: SiteId
    public_key: bytes
    platform: Platform
    state: AgentState
    next_key: bytes | None = None
    """One that is to take over: see `gateways.agents.proofs`."""
    barred: frozenset[str] = frozenset()
    """Machines that were shut out as clones: see `gateways.agents.duplicates`."""
    server_key: int = 1
    """The newest of the server's delivery keys that it said it knows."""

    def must_be_active(self) -> None:
        """Raise AgentSuspendedError or AgentRetiredError unless it is."""
        if self.state is AgentState.SUSPENDED:
            raise AgentSuspendedError
        if self.state is AgentState.RETIRED:
            raise AgentRetiredError


class Directory:
    """Looks agents up, many by one read.

    Whoever owns it calls `forget` for each event that changes an agent.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._entries: dict[UUID, Entry] = {}
        self._loads: Batcher[UUID, Entry | UnreadableStoryError | None] = Batcher(self._load, name="directory")
        self._forgotten_while_loading: set[UUID] = set()
        self._loading = 0

    async def active(self, agent_id: UUID) -> Entry:
        """An agent that may do things.

        Raises:
            UnknownAgentError, AgentSuspendedError, AgentRetiredError: it may not.
            UnreadableStoryError: nobody can say.
        """
        entry = await self.get(agent_id)
        if entry is None:
            raise UnknownAgentError
        entry.must_be_active()
        return entry

    async def get(self, agent_id: UUID) -> Entry | None:
        """What is known of an agent; None if there is no such.

        Raises:
            UnreadableStoryError: the log knows of it, and it cannot be read.
        """
        found = self._entries.get(agent_id) or await self._loads.submit(agent_id)
        if isinstance(found, UnreadableStoryError):
            raise found
        return found

    def client_of(self, agent_id: UUID) -> ClientId | None:
        """The tenant of an agent that is remembered."""
        entry = self._entries.get(agent_id)
        return entry.client_id if entry is not None else None

    async def get_many(self, agent_ids: Iterable[UUID]) -> dict[UUID, Entry]:
        """Those that exist and can be read."""
        found: dict[UUID, Entry] = {}
        missing: list[UUID] = []
        for agent_id in agent_ids:
            entry = self._entries.get(agent_id)
            if entry is None:
                missing.append(agent_id)
            else:
                found[agent_id] = entry
        if missing:
            found |= {entry.agent_id: entry for entry in await self._load(missing) if isinstance(entry, Entry)}
        return found

    def forget(self, agent_id: UUID) -> None:
        self._entries.pop(agent_id, None)
        if self._loading:
            # What is being read may be from before the event, and must not be remembered.
            self._forgotten_while_loading.add(agent_id)

    async def _load(self, agent_ids: list[UUID]) -> list[Entry | UnreadableStoryError | None]:
        """Read agents; one whose story cannot be read spoils nobody else's."""
        self._loading += 1
        try:
            beside = {agent_id: duplicates_stream(agent_id) for agent_id in agent_ids}
            streams = await self._log.read_streams([*beside, *beside.values()], tolerant=True)
            answers: list[Entry | UnreadableStoryError | None] = []
            for agent_id in agent_ids:
                try:
                    entry = _entry(agent_id, streams.get(agent_id, []), streams.get(beside[agent_id], []))
                except UnreadableStoryError as error:
                    _log.error("agent_unreadable", agent_id=str(agent_id), error=error.detail)
                    answers.append(error)
                    continue
                answers.append(entry)
                if entry is not None and agent_id not in self._forgotten_while_loading:
                    self._entries[agent_id] = entry
        finally:
            self._loading -= 1
            if not self._loading:
                self._forgotten_while_loading.clear()
        while len(self._entries) > MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        return answers


def _entry(agent_id: UUID, recorded: list[Recorded], beside: list[Recorded]) -> Entry | None:
    must_be_readable(recorded)
    must_be_readable(beside)
    try:
        agent = Agent.load(agent_id, (one.event for one in recorded))
    except TypeError:
        # The id names a stream of another kind.
        return None
    if not agent.exists:
        return None
    return Entry(
        AgentId(agent_id),
        agent.client_id,
        agent.site_id,
        bytes.fromhex(agent.public_key),
        agent.platform,
        agent.state,
        bytes.fromhex(agent.next_key) if agent.next_key is not None else None,
        Duplicates.load(duplicates_stream(agent_id), (one.event for one in beside)).barred,
        agent.server_key,
    )
