"""What agents say, whichever way it came: understood, checked, recorded, and only then answered.

An answer other than `Refused` means "committed in Postgres" (invariant 6). While Postgres is away the answer is a
`Refused` that is not permanent: the agent keeps what it has and repeats it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog

from command_bus.context import Clock
from command_bus.event_log import EventLog, EventLogError
from command_bus.handlers.agent_keys import AgentKeys
from command_bus.handlers.delivery import Deliveries
from command_bus.handlers.presence import PresenceHandler
from command_bus.handlers.refused_orders import RefusedOrderReports
from command_bus.postgres import AsyncPool
from command_bus.repository import UnreadableStoryError
from domain.errors import AgentSuspendedError, DomainError, InvalidValueError, NotFoundError, NotYourCommandError
from domain.ids import AgentId
from gateways.agents import metrics
from gateways.agents.batches import Batcher, OverloadedError
from gateways.agents.check_lists import CheckLists
from gateways.agents.checks import CheckReports, CheckTold
from gateways.agents.directory import Directory, Entry
from gateways.agents.keys import KeysInUse
from gateways.agents.masking import Masks, masked
from gateways.agents.orders import Orders
from gateways.agents.outputs import NOTHING, OutputMissingError, OutputStore, check_inline, named_outputs
from gateways.agents.proofs import verify
from gateways.agents.restored import Restored
from gateways.agents.software import REST, SoftwareReports, SoftwareTooSoonError
from gateways.agents.steps import Steps, nothing
from gateways.agents.trust import Told
from gateways.rest.rates import Rates
from projections.pending import QueueCounts, counts, held
from schema import wire
from schema.checks import CheckReport
from schema.masking import Hidden

_log = structlog.get_logger()
RETRY_S = 2.0
UNREADABLE_RETRY_S = 60.0
"""What this server cannot read a newer one may; that takes a while."""
HELLO_INTERVAL_S = 60.0
SOFTWARE_PER_S, SOFTWARE_BURST = 0.05, 6
"""Lists of one agent that are looked at at all: it has something new to say once an hour."""
CHECKS_PER_S, CHECKS_BURST = 0.2, 120
"""Changes of one agent's checks that are looked at: one that has a hundred may tell of all of them at once."""
REFUSALS_PER_S, REFUSALS_BURST = 0.5, 60
"""Reports of what one agent refused that are put on record: more than an agent makes that means well."""
MAX_FACTS_BYTES = 256 * 1024
_SERVER_ERROR = 500


class MalformedError(DomainError):
    """The message is not what `schema/wire.py` says that it should be."""

    code = "malformed"
    status = 400


class UnknownKindError(DomainError):
    """This server does not know that kind of message; it may be older than the agent."""

    code = "unknown_kind"
    status = 400


class ProtocolTooNewError(DomainError):
    """The agent speaks a newer protocol than this server; update the server first."""

    code = "protocol_too_new"
    status = 409


OUTAGES = (EventLogError, psycopg.OperationalError, OverloadedError)
"""Not the agent's fault: it is asked to come again."""
OnAgents = Callable[[Sequence[AgentId]], None]


class _Queue(msgspec.Struct, frozen=True):
    """What a hello is answered by."""

    counts: QueueCounts
    held: list[tuple[UUID, int]]


class Uplink:
    """Handles messages for one process.

    Args:
        log: the event log.
        pool: to the database.
        directory: of agents.
        deliveries: records results and starts.
        orders: signs what an agent is taken to have.
        presence: records facts.
        software: records what is installed.
        checks: records what checks find.
        check_lists: which checks are whose.
        check_told: keeps what agents say of them.
        refusals: records what agents refused.
        gateway: the name that events bear.
        clock: now.
        masks: what is not to be seen of what agents report.
        keys: records that an agent offers another key, and which of the server's it knows.
        own_keys: the server's.
        on_contact: an agent said hello and has commands waiting.
        on_room: agents have ended something, so that they may have room for more.
        seen: an agent was heard of.
        on_samples: it said how busy its machine is.
        group: so many results go into one commit at the most.
        restored: the last restore of the log, if there was any: agents are asked for what it lost.
        told: whom agents are to trust; by default whom their systems do.
        steps: see `gateways.agents.steps`.
    """

    def __init__(
        self,
        log: EventLog,
        pool: AsyncPool,
        directory: Directory,
        deliveries: Deliveries,
        orders: Orders,
        presence: PresenceHandler,
        software: SoftwareReports,
        checks: CheckReports,
        check_lists: CheckLists,
        check_told: CheckTold,
        refusals: RefusedOrderReports,
        gateway: str,
        clock: Clock,
        masks: Masks,
        keys: AgentKeys,
        own_keys: KeysInUse,
        *,
        on_contact: OnAgents,
        on_room: OnAgents,
        seen: Callable[[AgentId], None],
        on_samples: Callable[[AgentId, Sequence[wire.Sample]], None],
        group: int = 500,
        restored: Restored | None = None,
        told: Told | None = None,
        steps: Steps = nothing,
    ) -> None:
        self._steps = steps
        self._told = told or Told()
        self._restored = restored
        self._log = log
        self._pool = pool
        self._directory = directory
        self._deliveries = deliveries
        self._orders = orders
        self._presence = presence
        self._software = software
        self._checks = checks
        self._check_lists = check_lists
        self._check_told = check_told
        self._refusals = refusals
        self._software_allowed = Rates(SOFTWARE_PER_S, SOFTWARE_BURST, time.monotonic)
        self._checks_allowed = Rates(CHECKS_PER_S, CHECKS_BURST, time.monotonic)
        self._refusals_allowed = Rates(REFUSALS_PER_S, REFUSALS_BURST, time.monotonic)
        self._gateway = gateway
        self._clock = clock
        self._masks = masks
        self._keys = keys
        self._own_keys = own_keys
        self._on_contact = on_contact
        self._on_room = on_room
        self._seen = seen
        self._on_samples = on_samples
        self._outputs = OutputStore(pool)
        self._hellos: Batcher[UUID, _Queue] = Batcher(self._look, name="hello", size=1000)
        self._results: Batcher[tuple[AgentId, wire.ResultReport], str | DomainError] = Batcher(
            self._record_results, name="results", size=group
        )
        self._starts: Batcher[tuple[AgentId, wire.StartedReport], str | DomainError] = Batcher(
            self._record_starts, name="starts", size=group
        )

    async def handle(self, agent_id: UUID, data: bytes, transport: str) -> bytes:
        """Answer one message.

        Args:
            agent_id: whose it is; the transport has made sure of that.
            data: the message.
            transport: ``nats`` or ``http``, for the count of check-ins.
        """
        began = time.perf_counter()
        kind = "unknown"
        try:
            message = decode(data)
            kind = str(type(message).__struct_config__.tag)
            entry = await self._directory.active(agent_id)
            self._seen(entry.agent_id)
            reply = await self._dispatch(entry, message, transport)
        except DomainError as error:
            reply = self._refuse(agent_id, kind, error)
        except OUTAGES as error:
            metrics.REFUSED.labels(error.code if not isinstance(error, psycopg.Error) else "log_unavailable").inc()
            _log.info("uplink_waiting", kind=kind, agent_id=str(agent_id), error=str(error).strip())
            code = "overloaded" if isinstance(error, OverloadedError) else "log_unavailable"
            reply = wire.Refused(code=code, permanent=False, retry_after_s=RETRY_S)
        metrics.UPLINK_S.labels(kind).observe(time.perf_counter() - began)
        return wire.encode(reply)

    def _refuse(self, agent_id: UUID, kind: str, error: DomainError) -> wire.Refused:
        metrics.REFUSED.labels(error.code).inc()
        # A suspended agent may be resumed, and keeps what it has until then; what is missing may yet be sent.
        passing = error.status >= _SERVER_ERROR or isinstance(
            error, AgentSuspendedError | OutputMissingError | SoftwareTooSoonError
        )
        _log.warning("uplink_refused", kind=kind, agent_id=str(agent_id), code=error.code, detail=error.detail)
        return wire.Refused(
            code=error.code,
            detail=error.detail,
            permanent=not passing,
            retry_after_s=_again_s(error) if passing else None,
        )

    async def _dispatch(  # noqa: C901, PLR0911, PLR0912 - one case for each kind
        self, entry: Entry, message: wire.Uplink, transport: str
    ) -> wire.UplinkReply:
        match message:
            case wire.Hello():
                return await self._hello(entry, message, transport)
            case wire.ResultReport():
                return wire.Acknowledged(detail=await self._result(entry.agent_id, message))
            case wire.StartedReport():
                _raise(await self._starts.submit((entry.agent_id, message)))
            case wire.FactsReport():
                facts = check_facts(message.facts)
                await self._presence.facts(entry.agent_id, entry.client_id, facts)
            case wire.SoftwareReport():
                wait_s = self._software_allowed.spend(str(entry.agent_id))
                if wait_s > 0:
                    return wire.Refused(code="too_many_messages", permanent=False, retry_after_s=wait_s)
                await self._software.reported(entry.agent_id, entry.client_id, message.packed)
            case CheckReport():
                wait_s = self._checks_allowed.spend(str(entry.agent_id))
                if wait_s > 0:
                    return wire.Refused(code="too_many_messages", permanent=False, retry_after_s=wait_s)
                changed = await self._checks.reported(entry.agent_id, entry.client_id, message)
                return wire.Acknowledged(detail="" if changed else "duplicate")
            case wire.KeyOffer():
                await self._key_offer(entry, message)
            case wire.RefusalReport():
                return await self._refusal(entry, message)
            case wire.OutputOffer():
                return wire.OutputWanted(from_chunk=await self._outputs.wanted(entry.agent_id, message))
            case wire.OutputChunk():
                await self._must_own(entry.agent_id, message.command_id)
                hidden = (await self._masks.of([message.command_id])).get(message.command_id, NOTHING)
                if isinstance(hidden, DomainError):
                    raise hidden
                await self._outputs.put_chunk(entry.agent_id, message, hidden)
        return wire.Acknowledged()

    # -- check-ins -------------------------------------------------------------------------------------------------

    async def _hello(self, entry: Entry, hello: wire.Hello, transport: str) -> wire.HelloReply:
        agent_id = entry.agent_id
        if hello.protocol > wire.PROTOCOL:
            raise ProtocolTooNewError
        chain = self._own_keys.keys.chain
        if chain.newest.number > entry.server_key and chain.newest.public in hello.server_keys:
            await self._keys.learned(agent_id, chain.newest.number)
            self._directory.forget(agent_id)
        queue = await self._hellos.submit(agent_id)
        metrics.HELLOS.labels(transport).inc()
        if hello.samples:
            self._on_samples(agent_id, hello.samples)
        if hello.checks:
            self._check_told.add(agent_id, hello.checks, hello.check_values)
        if queue.counts.open:
            self._on_contact((agent_id,))
        return wire.HelloReply(
            server_time=self._clock(),
            pending=queue.counts.queued,
            hello_interval_s=HELLO_INTERVAL_S,
            repeat=self._restored.name if self._restored is not None else "",
            repeat_since=self._restored.since if self._restored is not None else None,
            held=self._orders.held(agent_id, queue.held) if queue.held else None,
            trust=self._orders.trust(hello, self._told),
            server_keys=chain.told_to(hello.server_keys),
            checks=self._check_lists.to(agent_id, hello.checks),
        )

    async def _look(self, agent_ids: list[UUID]) -> Sequence["_Queue"]:
        """Each agent's queue in numbers, and what it is taken to have.

        That is read before the agent hears of it, and was on its disk before it was recorded: so whatever it does not
        know by then is lost there.
        """
        async with self._pool.connection() as connection:
            found = await counts(connection, list(set(agent_ids)))
            having = [agent_id for agent_id, one in found.items() if one.delivered or one.running]
            there = await held(connection, having) if having else {}
        nothing = QueueCounts()
        return [_Queue(found.get(agent_id, nothing), there.get(agent_id, [])) for agent_id in agent_ids]

    async def _key_offer(self, entry: Entry, offer: wire.KeyOffer) -> None:
        """Take another key of an agent for good, once it and the present one vouch for each other."""
        said = wire.key_offer_proven(entry.agent_id, offer.public_key)
        verify(offer.public_key, offer.proof, said)
        if offer.public_key not in (entry.public_key, entry.next_key):
            verify(entry.public_key, offer.proof_of_present, said)
            await self._keys.offered(entry.agent_id, offer.public_key.hex())
            self._directory.forget(entry.agent_id)

    async def _refusal(self, entry: Entry, report: wire.RefusalReport) -> wire.UplinkReply:
        """Record what an agent refused, so often a minute: what it says beyond waits with it."""
        wait_s = self._refusals_allowed.spend(str(entry.agent_id))
        if wait_s > 0:
            return wire.Refused(code="too_many_messages", permanent=False, retry_after_s=wait_s)
        refused = await self._refusals.reported(entry.agent_id, entry.client_id, report)
        if refused is None:
            return wire.Acknowledged(detail="duplicate")
        metrics.ORDERS_REFUSED.labels(refused.why).inc(refused.count)
        _log.warning("order_refused", agent_id=str(entry.agent_id), why=refused.why, count=refused.count)
        return wire.Acknowledged()

    # -- commands --------------------------------------------------------------------------------------------------

    async def _result(self, agent_id: AgentId, report: wire.ResultReport) -> str:
        for stream in (report.stdout, report.stderr):
            check_inline(stream)
        named_outputs(report)
        outcome = _raise(await self._results.submit((agent_id, report)))
        metrics.RESULTS.labels(outcome or "new").inc()
        return outcome

    async def _record_results(self, items: list[tuple[AgentId, wire.ResultReport]]) -> list[str | DomainError]:
        """Store what outputs came along, then record: an event never speaks of an output that is not there."""
        self._steps("reported")
        named = [named_outputs(report) for _, report in items]
        missing = await self._outputs.missing([digest for digests in named for digest in digests])
        if missing:
            metrics.OUTPUTS_MISSING.inc(len(missing))
        hidden = await self._masks.of({report.command_id for _, report in items})
        refused = [
            OutputMissingError() if not missing.isdisjoint(digests) else _error(hidden.get(report.command_id))
            for digests, (_, report) in zip(named, items, strict=True)
        ]
        good = [_hidden(item, hidden) for item, error in zip(items, refused, strict=True) if error is None]
        await self._outputs.put_inline(
            stream for _, report in good for stream in (report.stdout, report.stderr) if stream.inline is not None
        )
        recorded = iter(await self._record_whole(good) if good else [])
        outcomes = [error if error is not None else next(recorded) for error in refused]
        self._steps("committed")
        self._on_room(list({agent_id for agent_id, _ in good}))
        return outcomes

    async def _record_whole(self, items: list[tuple[AgentId, wire.ResultReport]]) -> list[str | DomainError]:
        outcomes = await self._deliveries.finished_many(items, self._gateway)
        unknown = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, NotFoundError)]
        if self._restored is None or not unknown:
            return outcomes
        # An id that names something else is no command's, lost or not.
        heads = await self._log.read_heads([items[index][1].command_id for index in unknown])
        entries = await self._directory.get_many([items[index][0] for index in unknown])
        known = [index for index in unknown if items[index][0] in entries and items[index][1].command_id not in heads]
        strays = [(items[index][0], entries[items[index][0]].client_id, items[index][1]) for index in known]
        for index, outcome in zip(known, await self._deliveries.strays(strays) if strays else (), strict=True):
            outcomes[index] = outcome
        return outcomes

    async def _record_starts(self, items: list[tuple[AgentId, wire.StartedReport]]) -> list[str | DomainError]:
        return await self._deliveries.started_many(items, self._gateway)

    async def _must_own(self, agent_id: AgentId, command_id: UUID) -> None:
        head = (await self._log.read_heads([command_id], tolerant=True)).get(command_id)
        if head is None:
            if self._restored is None:
                raise NotFoundError(f"There is no command {command_id}.")
            return  # its result will be a stray one, and its output is wanted with it
        if head.agent_id != agent_id:
            raise NotYourCommandError

    async def drain(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(self._hellos.drain(), self._results.drain(), self._starts.drain())


def decode(data: bytes) -> wire.Uplink:
    """Read a message.

    Raises:
        MalformedError: it is not msgpack, or its fields are not what they should be.
        UnknownKindError: its kind is not known here.
    """
    try:
        message: wire.Uplink = wire.decode_uplink(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        try:
            kind = wire.kind_of(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise MalformedError(f"Not a message: {error}") from error
        if kind not in wire.UPLINK_KINDS:
            raise UnknownKindError(f"kind: {kind[:40]!r} is not known to this server.") from error
        raise MalformedError(f"{kind}: {error}") from error
    return message


def _error(hidden: Hidden | DomainError | None) -> DomainError | None:
    return hidden if isinstance(hidden, DomainError) else None


def _hidden(
    item: tuple[AgentId, wire.ResultReport], hidden: Mapping[UUID, Hidden | DomainError]
) -> tuple[AgentId, wire.ResultReport]:
    """A result without the secrets that its command was handed."""
    agent_id, report = item
    unseen = hidden.get(report.command_id)
    return (agent_id, masked(report, unseen)) if isinstance(unseen, Hidden) and unseen else item


def _again_s(error: DomainError) -> float:
    if isinstance(error, SoftwareTooSoonError):
        return REST.total_seconds()
    return UNREADABLE_RETRY_S if isinstance(error, UnreadableStoryError) else RETRY_S


def check_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as JSON can hold them.

    Raises:
        InvalidValueError: they hold something that is no JSON, or are too large.
    """
    try:
        document = msgspec.json.encode(facts)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"facts: {error}") from error
    if len(document) > MAX_FACTS_BYTES:
        raise InvalidValueError(f"facts: at most {MAX_FACTS_BYTES} bytes as JSON, not {len(document)}.")
    cleaned: dict[str, Any] = msgspec.json.decode(document)
    return cleaned


def _raise(outcome: str | DomainError) -> str:
    if isinstance(outcome, DomainError):
        raise outcome
    return outcome
