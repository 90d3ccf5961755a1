"""Machines that were not let in, on record: as which agent or by which token, and from where."""

from uuid import UUID

from command_bus.credentials import TOKEN_PREFIX, parse
from command_bus.event_log import EventLog, EventLogError
from command_bus.refusals import RefusalRecords
from domain.errors import DomainError
from domain.ids import ClientId, TokenId
from domain.refusals import AgentRefused, Door
from gateways.agents.directory import Directory
from gateways.rest.guesses import place_of

REFUSED = (403, 409)
"""What says that somebody may not come in. All else is only counted: it says that too much came, or nothing whole."""
_TOKENS = ("EnrollmentToken", "GuardedToken")
"""How the names of its events begin."""


class AgentRefusals:
    """Says of each whom it concerns, as far as that is known.

    Args:
        records: of this process.
        log: the event log.
    """

    def __init__(self, records: RefusalRecords, log: EventLog) -> None:
        self._records = records
        self._log = log

    def count(self, door: Door, error: DomainError) -> None:
        """Of whom nothing was looked at."""
        self._records.count(door, error.code)

    async def refused(
        self, door: Door, error: DomainError, directory: Directory, claimed: UUID | None, address: str
    ) -> None:
        """Record that somebody who said they are an agent was refused; never raises.

        Args:
            door: where.
            error: why.
            directory: knows the agents.
            claimed: who they say they are; None if that is nobody's name.
            address: where they come from.
        """
        if error.status not in REFUSED:
            self.count(door, error)
            return
        try:
            entry = await directory.get(claimed) if claimed is not None else None
        except (DomainError, EventLogError):
            # Whose address it is cannot be told, and so not be kept.
            self.count(door, error)
            return
        await self._records.refused(
            AgentRefused(door=door, code=error.code, claimed=claimed if entry is None else None, address=address),
            (str(claimed), place_of(address)),
            agent_id=entry.agent_id if entry is not None else None,
            client_id=entry.client_id if entry is not None else None,
        )

    async def enrollment(self, error: DomainError, token: str, address: str, correlation_id: UUID) -> None:
        """Record that somebody may not enroll; never raises.

        Args:
            error: why.
            token: that they showed; its id is kept, and nothing else of it.
            address: where they come from.
            correlation_id: of their request.
        """
        if error.status not in REFUSED:
            self.count(Door.ENROLLMENT, error)
            return
        parsed = parse(TOKEN_PREFIX, token)
        token_id, client_id = (None, None) if parsed is None else (TokenId(parsed[0]), await self._client(parsed[0]))
        await self._records.refused(
            AgentRefused(door=Door.ENROLLMENT, code=error.code, token_id=token_id, address=address),
            (str(token_id), place_of(address)),
            correlation_id=correlation_id,
            client_id=client_id,
        )

    async def _client(self, token_id: UUID) -> ClientId | None:
        try:
            head = (await self._log.read_heads([token_id], tolerant=True)).get(token_id)
        except EventLogError:
            return None
        if head is None or head.client_id is None or not head.topic.startswith(_TOKENS):
            return None
        return ClientId(head.client_id)
