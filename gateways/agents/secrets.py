"""Secrets for commands that are about to leave: found, opened, and the reading of them on record before they go.

Which one a name means is decided here and now, by the log itself: the nearest to the agent that is not removed. A
command whose secrets are not all to be had is not sent: it ends as rejected, and the reason names what was missing.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
import structlog

from command_bus.event_log import EventLog, EventLogError
from command_bus.keystore import Keystore, Unreadable
from command_bus.master_keys import KeyServiceAwayError
from command_bus.postgres import AsyncPool
from domain.event import Change, Metadata, Recorded, Undecodable
from domain.ids import AgentId, ClientId, CommandId, SecretId
from domain.placeholders import SECRET, Data, Placeholder
from domain.secrets import ReadSecret, SecretReads, SecretSet, SecretsRead, nearest_first, reads_stream, secret_stream
from gateways.agents.directory import Directory, Entry
from gateways.agents.masking import values_read
from projections.pending import PendingRow, naming_secrets

_log = structlog.get_logger()
UNAVAILABLE = "secret_unavailable"
_TRIES = 3
_PAGE = 2000


class Opened(msgspec.Struct, frozen=True):
    """The secrets of one command."""

    public_key: bytes
    """Of the agent that they are for."""
    values: Mapping[str, str] = {}
    """By placeholder."""


class Missing(msgspec.Struct, frozen=True):
    """Why a command cannot have its secrets, ever."""

    why: str


class Want(msgspec.Struct, frozen=True):
    """A command that names secrets."""

    row: PendingRow
    data: Data


class _Found(msgspec.Struct, frozen=True):
    entry: Entry
    secrets: dict[str, ReadSecret]
    """By name as the command has it."""


class Secrets:
    """Opens secrets for one process.

    Args:
        log: says which secrets there are, and hears of each read.
        keystore: holds their values.
        directory: of agents.
        gateway: the name that events bear.
    """

    def __init__(self, log: EventLog, keystore: Keystore, directory: Directory, gateway: str) -> None:
        self._log = log
        self._keystore = keystore
        self._directory = directory
        self._gateway = gateway

    async def open(self, wants: Sequence[Want]) -> dict[UUID, Opened | Missing]:
        """Open what these commands name.

        Returns:
            One for each command, but for those whose secrets nobody can tell just now: the key service is away, or the
            log would not take the record of the read. They are worth another try.
        """
        answers: dict[UUID, Opened | Missing] = {}
        left = {want.row.command_id: want for want in wants}
        for _ in range(_TRIES):
            found = await self._find(list(left.values()))
            answers |= {command_id: one for command_id, one in found.items() if isinstance(one, Missing)}
            named = {command_id: one for command_id, one in found.items() if isinstance(one, _Found)}
            try:
                values = await self._keystore.open(
                    list({read.value_id for one in named.values() for read in one.secrets.values()})
                )
            except KeyServiceAwayError as error:
                _log.warning("secrets_waiting", commands=len(named), error=error.detail)
                return answers
            whole = {
                command_id: one
                for command_id, one in named.items()
                if all(read.value_id in values for read in one.secrets.values())
            }
            refused = {command_id: why for command_id, one in whole.items() if (why := _unreadable(one, values))}
            answers |= refused
            good = {command_id: one for command_id, one in whole.items() if command_id not in refused}
            for command_id in await self._record(good, left):
                answers[command_id] = _opened(good[command_id], values)
            left = {command_id: left[command_id] for command_id in named if command_id not in whole}
            if not left:
                return answers
            # One got another value between the look at the log and the look at the values: look again.
        return answers | {command_id: Missing("its value is not kept here.") for command_id in left}

    async def _find(self, wants: Sequence[Want]) -> dict[UUID, _Found | Missing]:
        entries = await self._directory.get_many({want.row.agent_id for want in wants})
        candidates: dict[UUID, dict[str, list[SecretId]]] = {}
        for want in wants:
            entry = entries.get(want.row.agent_id)
            if entry is not None:
                holders = list(nearest_first(entry.agent_id, entry.site_id, entry.client_id, want.data.widest))
                candidates[want.row.command_id] = {
                    name: [secret_stream(name, holder) for holder in holders] for name in want.data.secrets
                }
        streams = {one for names in candidates.values() for ids in names.values() for one in ids}
        heads = await self._log.read_heads(list(streams), tolerant=True)
        return {
            want.row.command_id: _nearest(want, entries.get(want.row.agent_id), candidates, heads) for want in wants
        }

    async def _record(self, found: Mapping[UUID, _Found], wants: Mapping[UUID, Want]) -> list[UUID]:
        """Put the reads on record; returns the commands for which that was done."""
        heads = await self._log.read_heads([reads_stream(command_id) for command_id in found])
        items: list[tuple[Sequence[Change], Metadata]] = []
        recorded: list[UUID] = []
        pending: list[UUID] = []
        for command_id, one in found.items():
            row = wants[command_id].row
            changes = _read(row, one, heads.get(reads_stream(command_id)))
            if changes:
                metadata = Metadata(
                    actor=f"gateway:{self._gateway}", correlation_id=row.correlation_id, causation_id=command_id
                )
                items.append((changes, metadata))
                pending.append(command_id)
            else:
                recorded.append(command_id)
        for command_id, outcome in zip(pending, await self._log.append_each(items), strict=True):
            if isinstance(outcome, EventLogError):
                _log.info("secret_read_not_recorded", command_id=str(command_id), error=str(outcome))
            else:
                recorded.append(command_id)
        return recorded


def _nearest(
    want: Want,
    entry: Entry | None,
    candidates: Mapping[UUID, Mapping[str, Sequence[SecretId]]],
    heads: Mapping[UUID, Recorded],
) -> _Found | Missing:
    if entry is None:
        return Missing("the agent is not known.")
    if entry.client_id != want.row.client_id:
        # Whoever asked for it may see nothing of the client that the agent belongs to now (invariant 8).
        return Missing("the agent has moved to another client since this was queued.")
    secrets: dict[str, ReadSecret] = {}
    for name, secret_ids in candidates[want.row.command_id].items():
        for secret_id in secret_ids:
            head = heads.get(secret_id)
            if head is not None and isinstance(head.event, Undecodable):
                return Missing(f"secret {name}: what is on record of it cannot be read.")
            if head is not None and isinstance(head.event, SecretSet) and head.event.scope.counts_in(entry.client_id):
                secrets[name] = ReadSecret(
                    secret_id=secret_id, name=head.event.name, number=head.event.number, value_id=head.event.value_id
                )
                break
        else:
            return Missing(f"secret {name}: there is none of that name for this agent.")
    return _Found(entry, secrets)


def _unreadable(found: _Found, values: Mapping[UUID, bytes | Unreadable]) -> Missing | None:
    for name, read in found.secrets.items():
        value = values[read.value_id]
        if isinstance(value, Unreadable):
            return Missing(f"secret {name} cannot be read: {value.why}")
    return None


def _opened(found: _Found, values: Mapping[UUID, bytes | Unreadable]) -> Opened:
    opened = {}
    for name, read in found.secrets.items():
        value = values[read.value_id]
        if isinstance(value, bytes):
            opened[Placeholder(SECRET, name).key] = value.decode()
    return Opened(found.entry.public_key, opened)


def _read(row: PendingRow, found: _Found, head: Recorded | None) -> list[Change]:
    """The read of one attempt, unless it is the last thing on record."""
    reads = SecretReads(reads_stream(row.command_id))
    if head is not None:
        reads.version = head.originator_version
        reads.last = head.event if isinstance(head.event, SecretsRead) else None
    return reads.read(
        SecretsRead(
            command_id=CommandId(row.command_id),
            attempt=row.attempt,
            agent_id=AgentId(row.agent_id),
            client_id=ClientId(row.client_id),
            secrets=tuple(found.secrets[name] for name in sorted(found.secrets)),
        )
    )


async def handed_out(log: EventLog, pool: AsyncPool) -> set[UUID]:
    """The values that commands were handed which have not ended: what these print is masked by them.

    Args:
        log: says what each was handed.
        pool: to the database.
    """
    found: set[UUID] = set()
    after = UUID(int=0)
    while True:
        async with pool.connection() as connection:
            commands = await naming_secrets(connection, after, _PAGE)
        streams = await log.read_streams([reads_stream(one) for one in commands], tolerant=True)
        for events in streams.values():
            found |= values_read(events)
        if len(commands) < _PAGE:
            return found
        after = commands[-1]
