"""Events to append, and counting readers."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from command_bus.ids import new_id
from domain.clients import ClientCreated, ClientRenamed
from domain.commands import CommandQueued, RunShell
from domain.event import Change, Metadata
from domain.ids import AgentId, ClientId, SiteId
from domain.scripts import Shell

SITE = SiteId(UUID(int=3))


def metadata(actor: str = "key:tests", *, correlation_id: UUID | None = None) -> Metadata:
    return Metadata(actor=actor, correlation_id=correlation_id or new_id(), causation_id=new_id())


def queued(
    agent_id: UUID, client_id: UUID, *, stream_id: UUID | None = None, version: int = 1, line: str = "true"
) -> Change:
    event = CommandQueued(
        agent_id=AgentId(agent_id),
        client_id=ClientId(client_id),
        site_id=SITE,
        spec=RunShell(shell=Shell.SH, line=line),
        expires_at=datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=version),
    )
    return Change(stream_id or new_id(), version, event, agent_id, client_id)


def created(name: str = "Acme", *, stream_id: UUID | None = None) -> Change:
    stream_id = stream_id or new_id()
    return Change(stream_id, 1, ClientCreated(name=name), None, stream_id)


def renamed(stream_id: UUID, version: int, name: str = "Acme Ltd") -> Change:
    return Change(stream_id, version, ClientRenamed(name=name), None, stream_id)
