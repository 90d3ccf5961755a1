"""From rows of the queue to signed messages that leave nothing for the agent to look up."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog

from command_bus.askers import Askers, needs_of
from command_bus.context import Clock
from command_bus.event_log import EventLog
from command_bus.repository import UnreadableStoryError, must_be_readable
from domain.commands import CollectFacts, Ping, RotateKey, RunScript, RunShell, Spec
from domain.hours import decode_hours
from domain.ids import AgentId
from domain.patches import InstallUpdates, Reboot
from domain.placeholders import SECRET, Data, fill, found_in, refer, variables
from domain.scripts import Revision, Script, Shell
from gateways.agents.directory import Directory
from gateways.agents.keys import Key
from gateways.agents.secrets import UNAVAILABLE, Missing, Opened, Secrets, Want
from gateways.agents.trust import Told
from projections.pending import PendingRow
from schema import trust, wire
from schema.patches import InstallWork, RebootWork
from schema.sealing import seal

_log = structlog.get_logger()
MAX_REVISIONS = 2000
"""Kept in memory; a revision never changes, so none is ever stale."""
MAX_BODY_BYTES = wire.MAX_MESSAGE_BYTES - 4096
"""Of one delivery, signature and envelope aside."""
_decode_spec = msgspec.json.Decoder(Spec).decode


class Prepared(msgspec.Struct):
    """What an order is made of: one for all commands that say the same, where no secret is in it."""

    spec: Spec
    secrets: Opened | Missing | None = None
    """Where it names any."""
    work: bytes | None = None
    """What its agents are to do, once that was put into words for one of them."""
    withdrawn: bool = False
    """Whoever asked for it may no longer."""


class Packed(msgspec.Struct, frozen=True):
    """One delivery, ready to be sent."""

    message: bytes
    rows: list[PendingRow]
    """What it carries, in order."""
    rejected: list[wire.Accepted]
    """What could not be put into any delivery, in the words that the agent would use."""
    withdrawn: frozenset[UUID]
    """What is not put into any, since whoever asked for it may no longer."""
    stuck: bool = False
    """It ends before a command that this server cannot make an order of. Nothing overtakes that, to keep the order."""


class Orders:
    """Makes deliveries.

    Args:
        log: scripts are read from it.
        key: the fleet's delivery key; asked for each time, for another may have taken over.
        clock: the server's time, by which agents judge age and expiry.
        secrets: opens those that commands name.
        askers: what those who asked for them may do now.
        directory: where agents are now.
    """

    def __init__(
        self,
        log: EventLog,
        key: Callable[[], Key],
        clock: Clock,
        secrets: Secrets,
        askers: Askers,
        directory: Directory,
    ) -> None:
        self._log = log
        self._key = key
        self._clock = clock
        self._secrets = secrets
        self._askers = askers
        self._directory = directory
        self._revisions: OrderedDict[tuple[UUID, int], Revision] = OrderedDict()
        self._plain: OrderedDict[UUID, None] = OrderedDict()

    async def prepare(self, rows: Sequence[PendingRow]) -> dict[UUID, Prepared]:
        """Read these commands' specs, the scripts that they run and the secrets that they name, by one read each.

        Returns:
            One for each command but those that this server cannot read, or whose script or secrets it cannot just now:
            a newer server wrote them, and one such is to make the others; or a key service is away.
        """
        specs = await self._specs(rows)
        withdrawn = await self._withdrawn([row for row in rows if row.command_id in specs], specs)
        prepared = {command_id: Prepared(specs.pop(command_id), withdrawn=True) for command_id in withdrawn}
        wants = [Want(row, data) for row in rows if (data := _data(specs.get(row.command_id))) and data.secrets]
        self._note_plain(specs.keys() - {want.row.command_id for want in wants})
        naming = {want.row.command_id for want in wants}
        shared: dict[int, Prepared] = {}
        prepared |= {
            command_id: shared.setdefault(id(spec), Prepared(spec))
            for command_id, spec in specs.items()
            if command_id not in naming
        }
        if wants:
            opened = await self._secrets.open(wants)
            prepared |= {
                command_id: Prepared(specs[command_id], opened[command_id]) for command_id in naming & opened.keys()
            }
        return prepared

    async def _withdrawn(self, rows: Sequence[PendingRow], specs: dict[UUID, Spec]) -> list[UUID]:
        """Those of these commands that whoever asked for them might not ask for now, where their agents are now.

        Known of most without being read: of an asker whom nobody changed since the last time, and of an agent. Where
        it is not known who asked, or an agent cannot be read, nobody can say: those are taken out of the specs.
        """
        for row in rows:
            if row.actor is None:
                _log.error("asker_unknown", command_id=str(row.command_id))
                del specs[row.command_id]
        access = await self._askers.access({row.actor for row in rows if row.actor is not None}, self._clock())
        judged = [(row, access[row.actor]) for row in rows if row.actor is not None and row.actor in access]
        places = await self._directory.get_many({row.agent_id for row, _ in judged})
        found = []
        for row, may in judged:
            place = places.get(row.agent_id)
            if place is None:
                del specs[row.command_id]
                continue
            scope = may.scope(*needs_of(row.command_id, specs[row.command_id]))
            if not scope.holds(place.client_id, place.site_id):
                found.append(row.command_id)
        return found

    def names_no_secret(self, command_id: UUID) -> bool:
        """Whether this is known of a command: what it names is in its spec, and that never changes."""
        return command_id in self._plain

    def _note_plain(self, command_ids: Iterable[UUID]) -> None:
        self._plain.update(dict.fromkeys(command_ids))
        while len(self._plain) > MAX_PLAIN:
            self._plain.popitem(last=False)

    async def _specs(self, rows: Sequence[PendingRow]) -> dict[UUID, Spec]:
        specs: dict[UUID, Spec] = {}
        decoded: dict[bytes, Spec] = {}
        for row in rows:
            try:
                spec = decoded.get(row.spec)
                if spec is None:
                    spec = decoded[row.spec] = _decode_spec(row.spec)
                specs[row.command_id] = spec
            except msgspec.MsgspecError as error:
                _log.error("spec_unreadable", command_id=str(row.command_id), error=str(error))
        wanted = {(spec.script_id, spec.revision) for spec in specs.values() if isinstance(spec, RunScript)}
        missing = {script_id for script_id, revision in wanted if (script_id, revision) not in self._revisions}
        if missing:
            unreadable = await self._read(missing)
            for command_id, spec in list(specs.items()):
                if isinstance(spec, RunScript) and spec.script_id in unreadable:
                    del specs[command_id]
        for pinned in wanted & self._revisions.keys():
            self._revisions.move_to_end(pinned)
        while len(self._revisions) > max(MAX_REVISIONS, len(wanted)):
            self._revisions.popitem(last=False)
        return specs

    async def _read(self, script_ids: Collection[UUID]) -> set[UUID]:
        """Remember all revisions of these scripts; returns those that cannot be read."""
        streams = await self._log.read_streams(list(script_ids), tolerant=True)
        unreadable = set()
        for script_id, recorded in streams.items():
            try:
                must_be_readable(recorded)
            except UnreadableStoryError as error:
                _log.error("script_unreadable", script_id=str(script_id), error=error.detail)
                unreadable.add(script_id)
                continue
            script = Script.load(script_id, (one.event for one in recorded))
            for number, content in enumerate(script.revisions, start=1):
                self._revisions[script_id, number] = content
        return unreadable

    def pack(self, agent_id: AgentId, rows: Sequence[PendingRow], prepared: dict[UUID, Prepared]) -> Packed:
        """Put as many rows as fit, in order, into one signed delivery. Call `prepare` for them first.

        Rows whose time has run out since they were leased, or whose hours have closed, are left out (invariant 5): the
        next lease looks at them again, and the scheduler ends what has expired.
        """
        now = self._clock()
        orders: list[wire.Order] = []
        carried: list[PendingRow] = []
        refused: list[wire.Accepted] = []
        withdrawn: set[UUID] = set()
        room = MAX_BODY_BYTES
        stuck = False
        for row in rows:
            made = prepared.get(row.command_id)
            if made is None:
                stuck = True
                break
            if made.withdrawn:
                withdrawn.add(row.command_id)
                continue
            if _begins_by(row, now) <= now:
                continue
            work = self._work(row, made)
            if isinstance(work, bytes) and len(work) > MAX_BODY_BYTES - 1024:
                work = _TOO_LARGE
            if not isinstance(work, bytes):
                code, detail = work
                refused.append(rejected(row, code, detail))
                continue
            room -= len(work) + 512
            if room < 0:
                # The rest follows in the next one, after this was accepted: order is kept.
                break
            orders.append(_order(row, work, now))
            carried.append(row)
        body = wire.encode(wire.DeliveryBody(agent_id=agent_id, sent_at=now, orders=orders))
        key = self._key()
        delivery = wire.Delivery(body=body, signature=key.sign(wire.SIGNING_CONTEXT + body), key=key.name)
        return Packed(wire.encode(delivery), carried, refused, frozenset(withdrawn), stuck)

    def cancel(self, agent_id: AgentId, command_ids: Sequence[UUID]) -> bytes:
        """A signed request to drop commands."""
        body = wire.encode(wire.CancelBody(agent_id=agent_id, sent_at=self._clock(), command_ids=list(command_ids)))
        key = self._key()
        return wire.encode(wire.CancelRequest(body=body, signature=key.sign(wire.CANCEL_CONTEXT + body), key=key.name))

    def held(self, agent_id: AgentId, attempts: Sequence[tuple[UUID, int]]) -> wire.Held:
        """A signed list of what an agent is taken to have."""
        named = [wire.Attempt(command_id=command_id, attempt=attempt) for command_id, attempt in attempts]
        body = wire.encode(wire.HeldBody(agent_id=agent_id, sent_at=self._clock(), attempts=named))
        return wire.Held(body=body, signature=self._key().sign(wire.HELD_CONTEXT + body))

    def trust(self, hello: wire.Hello, told: Told) -> trust.Trust | None:
        """Whom an agent is to trust, if it trusts others."""
        return told.to(hello, self._key(), self._clock)

    def _work(  # noqa: PLR0911 - one case for each kind
        self, row: PendingRow, prepared: Prepared
    ) -> bytes | tuple[str, str]:
        """What the agent is to do; or the code of why it is told nothing, and that in words."""
        if prepared.work is not None:
            return prepared.work
        spec, secrets = prepared.spec, prepared.secrets
        if isinstance(secrets, Missing):
            return UNAVAILABLE, f"Not sent: {secrets.why}"
        match spec:
            case Ping() | CollectFacts() | RotateKey():
                return _BARE[type(spec)]
            case InstallUpdates() | Reboot():
                prepared.work = wire.encode(_of_system(spec))
                return prepared.work
            case RunShell():
                plain, shell = _line(spec), spec.shell
            case RunScript():
                content = self._revisions.get((spec.script_id, spec.revision))
                if content is None:
                    return "no_revision", "The script revision is not on record."
                plain, shell = _script(spec, content), content.shell
        hidden_args = False
        if spec.data is not None:
            hidden_args = any(one.kind == SECRET for argument in plain.args for one in found_in(argument))
            values = {**spec.data.given, **(secrets.values if secrets is not None else {})}
            plain = _filled(plain, shell, values)
        if secrets is None:
            prepared.work = wire.encode(plain)
            return prepared.work
        # In the clear it would lie in the broker's memory, and in whatever listens there.
        inner = wire.encode(
            wire.SecretWork(work=plain, secrets=sorted(set(secrets.values.values())), hidden_args=hidden_args)
        )
        name = wire.sealed_name(row.agent_id, row.command_id, row.attempt)
        return wire.encode(wire.SealedWork(sealed=seal(secrets.public_key, inner, name)))


def _line(spec: RunShell) -> wire.ScriptWork:
    return wire.ScriptWork(
        shell=spec.shell, body=spec.line, env=spec.env, timeout_s=spec.timeout_s, run_as=spec.run_as, inline=True
    )


def _script(spec: RunScript, content: Revision) -> wire.ScriptWork:
    return wire.ScriptWork(
        shell=content.shell,
        body=content.body,
        args=list(spec.args if spec.args is not None else content.args),
        env=content.env | spec.env,
        timeout_s=spec.timeout_s or content.timeout_s,
        run_as=spec.run_as or content.run_as,
    )


def _of_system(spec: InstallUpdates | Reboot) -> InstallWork | RebootWork:
    if isinstance(spec, Reboot):
        return RebootWork(delay_s=spec.delay_s, notice=spec.notice)
    return InstallWork(
        names=list(spec.names),
        versions=spec.versions,
        security_only=spec.security_only,
        held=list(spec.held),
        timeout_s=spec.timeout_s,
    )


def _data(spec: Spec | None) -> Data | None:
    return spec.data if isinstance(spec, RunScript | RunShell) else None


def _filled(work: wire.ScriptWork, shell: Shell, values: Mapping[str, str]) -> wire.ScriptWork:
    """Work with values in the place of its placeholders: none of them ever is code (`domain.placeholders`)."""
    return msgspec.structs.replace(
        work,
        body=refer(work.body, shell),
        args=[fill(argument, values) for argument in work.args],
        env={name: fill(value, values) for name, value in work.env.items()} | variables(work.body, values),
    )


def rejected(row: PendingRow, code: str, detail: str) -> wire.Accepted:
    """That a command will never be run there, in the words that its agent would use."""
    return wire.Accepted(command_id=row.command_id, attempt=row.attempt, status="rejected", code=code, detail=detail)


MAX_PLAIN = 50_000
"""So many commands that were prepared last are known to name no secret."""
_BARE: dict[type[Spec], bytes] = {
    Ping: wire.encode(wire.PingWork()),
    CollectFacts: wire.encode(wire.FactsWork()),
    RotateKey: wire.encode(wire.RotateKeyWork()),
}
"""What says it all by its kind."""
_TOO_LARGE = ("too_large", "With its arguments and environment the command is larger than a message may be.")


def _begins_by(row: PendingRow, now: datetime) -> datetime:
    """From when on the agent is not to begin it: it gives back what waited for its turn until its hours were over."""
    if row.hours is None:
        return row.expires_at
    hours = decode_hours(row.hours)
    return min(row.expires_at, hours.closing(now)) if hours.open_at(now) else now


def _order(row: PendingRow, work: bytes, now: datetime) -> wire.Order:
    return wire.Order(
        command_id=row.command_id,
        attempt=row.attempt,
        lane=row.lane,
        priority=row.priority,
        position=row.position,
        expires_at=_begins_by(row, now),
        age_ms=max(0, int((now - row.queued_at).total_seconds() * 1000)),
        work=work,
        correlation_id=row.correlation_id,
    )
