"""What agents report to have refused, as events."""

from datetime import UTC
from uuid import UUID

from msgspec import structs

from command_bus.context import NewId
from command_bus.event_log import ConflictError, EventLog
from domain.catalog import EVENTS
from domain.commands import Command
from domain.errors import DomainError, InvalidValueError
from domain.event import Metadata, Recorded
from domain.ids import AgentId, ClientId, CommandId
from domain.refused_orders import Brought, OrderRefused, RefusedFor, RefusedOrders, refused_orders_stream
from schema import wire

MAX_TRIES = 5
MAX_TEXT = 200
MAX_COUNT = 2**31
_OF_COMMANDS = frozenset(name for name, event in EVENTS.items() if event.__module__ == Command.__module__)


class RefusalNotRecordedError(DomainError):
    """Others kept changing the same story; report it again in a moment."""

    code = "busy_stream"
    status = 503


class RefusedOrderReports:
    """Records them.

    Args:
        log: the event log.
        new_id: for those that go back to no request.
    """

    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def reported(self, agent_id: AgentId, client_id: ClientId, report: wire.RefusalReport) -> OrderRefused | None:
        """Record a report, beside the command that it names where that is this agent's.

        Args:
            agent_id: who refused something.
            client_id: its tenant.
            report: what it says.

        Returns:
            The event; None if it is on record already.

        Raises:
            InvalidValueError: it is no such report.
            RefusalNotRecordedError: it is to be said again.
        """
        refused = _refused(report)
        for _ in range(MAX_TRIES):
            named = await self._named(report.command_id)
            own = named is not None and named.agent_id == agent_id and named.topic.partition("/")[0] in _OF_COMMANDS
            subject: UUID = named.originator_id if own and named is not None else agent_id
            if own or (named is None and report.command_id is not None):
                refused = _naming(refused, report)
            stream_id = refused_orders_stream(subject)
            head = (await self._log.read_heads([stream_id], tolerant=True)).get(stream_id)
            version, last = (head.originator_version, head.event) if head is not None else (0, None)
            changes = RefusedOrders.after(subject, agent_id, client_id, version, last).report(refused)
            if not changes:
                return None
            correlation_id = named.correlation_id if own and named is not None else self._new_id()
            try:
                await self._log.append(changes, Metadata(actor=f"agent:{agent_id}", correlation_id=correlation_id))
            except ConflictError:
                continue
            return refused
        raise RefusalNotRecordedError

    async def _named(self, command_id: UUID | None) -> Recorded | None:
        """The last event of what it names, whatever that is."""
        if command_id is None:
            return None
        return (await self._log.read_heads([command_id], tolerant=True)).get(command_id)


def _refused(report: wire.RefusalReport) -> OrderRefused:
    if report.at.tzinfo is None:
        raise InvalidValueError("A time without a zone is no time; send UTC.")
    return OrderRefused(
        what=Brought(report.what) if report.what in set(Brought) else Brought.OTHER,
        why=RefusedFor(report.code) if report.code in set(RefusedFor) else RefusedFor.OTHER,
        run=report.run[:MAX_TEXT],
        number=report.number,
        refused_at=report.at.astimezone(UTC),
        key=report.key.hex()[:MAX_TEXT],
        detail=report.detail[:MAX_TEXT],
        count=min(max(1, report.count), MAX_COUNT),
    )


def _naming(refused: OrderRefused, report: wire.RefusalReport) -> OrderRefused:
    command_id = CommandId(report.command_id) if report.command_id is not None else None
    return structs.replace(refused, command_id=command_id, attempt=report.attempt or None)
