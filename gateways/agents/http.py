"""Enrollment, and the HTTP check-in: the last resort where only HTTPS gets out, with the same messages as over NATS.

All state is in Postgres, so any process may take a check-in, whoever took the one before. Deliveries are made under
leases that all these processes hold in common (`leases.HTTP`); the agent polls one at a time, so a poll that takes the
lease again means that the answer before it was lost, and what was in it goes out once more.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID

import msgspec
import psycopg
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from command_bus.context import Clock, NewId
from command_bus.event_log import EventLog, EventLogError
from command_bus.handlers.enrollment import Caps, Enrollment
from command_bus.handlers.presence import Arrival
from command_bus.ids import new_id as fresh_id
from command_bus.ids import utc_now
from command_bus.master_keys import NO_KEYS, MasterKeys
from command_bus.postgres import AsyncPool
from command_bus.refusals import RefusalRecords
from domain.errors import DomainError
from domain.ids import AgentId
from domain.refusals import Door
from gateways.agents import metrics
from gateways.agents.delivery import STATUSES, cancelled_by
from gateways.agents.desk import Desk
from gateways.agents.directory import Entry, UnknownAgentError
from gateways.agents.duplicates import must_not_be_barred
from gateways.agents.enrolling import Enrolling, keep_pace
from gateways.agents.http_runs import HttpRuns, WhoIsThere
from gateways.agents.keys import KeysInUse, wait_for_keys
from gateways.agents.leases import HTTP, Leases
from gateways.agents.presence import touch
from gateways.agents.proofs import BadProofError
from gateways.agents.refusals import AgentRefusals
from gateways.agents.restored import last_restore
from gateways.agents.trust import Told
from gateways.agents.uplink import MalformedError
from gateways.cancelling import end
from gateways.rest.admission import BodyBudget, retry_after
from gateways.rest.bodies import receive_body
from gateways.rest.errors import ApiError, OverloadedError, StartingError, TooManyFailuresError, TooManyRequestsError
from gateways.rest.guesses import place_of
from gateways.rest.problems import problem_response
from gateways.rest.rates import FailureLimit, Rates
from projections.enrollments import CatchUp, counting
from schema import trust, wire
from schema.authorities import PATH as AUTHORITIES

_log = structlog.get_logger()
MAX_CHECK_IN_BYTES = 4 * 1024 * 1024
BODIES_BYTES = 64 * 1024 * 1024
"""Of all check-ins that are being received."""
POOL_S = 10.0
"""How long an enrollment waits for a connection to the database."""
MAX_POLL_BYTES = 8 * 1024
BODY_S = 30.0
MAX_CHECK_INS = 4_000
"""Long polls and others at once in one process; more agents than that want another, or NATS."""
MAX_CHECK_INS_OF_ONE = 16
"""Of one agent: it has one long poll, and eight results on their way."""
MAX_MESSAGES = 64
MAX_WAIT_S = 50.0
MAX_SKEW = timedelta(minutes=5)
LOOK_EVERY_S = 5.0
PRESENT_FOR_S = 30.0
"""Once an arrival is recorded it is not looked at again for so long."""
SEEN_EVERY_S = 1.0
FAILURE_BURST = 20
FAILURE_EVERY_S = 3.0
_decode_check_in = msgspec.msgpack.Decoder(wire.HttpCheckIn).decode


class ClockSkewError(ApiError):
    """The check-in's time is more than five minutes off; set the clock by the answer's server time and try again."""

    code = "clock_skew"
    status = 403


class NoAuthorityError(ApiError):
    """This server's certificate is under no authority of its own: it is a public one, or there is no TLS here."""

    code = "no_authority"
    status = 404


class Bounds(msgspec.Struct, frozen=True):
    """How much an agent, or a token, may ask of all API processes together."""

    caps: Caps = Caps()
    agents: Rates | None = None
    """Check-ins of one agent; None where it may come as often as it likes."""
    tokens: Rates | None = None
    """Machines that come by one token; None where there may be as many as it has uses."""


class AgentHttp:
    """Serves agents over HTTP in one API process.

    Args:
        log: the event log, started by its owner, as the pool is opened.
        pool: to the database.
        database_url: the same, for reading the fleet's keys.
        agent_nats_urls: where agents reach NATS; told to each that enrolls.
        name: of the process, in events.
        clock: now.
        new_id: a fresh version 7 UUID.
        lease_s: how long an agent may take to answer before a gateway tries over NATS.
        told: whom agents are to trust.
        master_keys: what secrets are sealed with.
        who_is_there: who listens as an agent at NATS; None where there is none to ask.
        failures: of addresses, where several processes share it; None means one of its own.
        bounds: how much of it there may be.
        catch_up: returns once these projections are where the log was when it was called; without it they are counted
            as they are read.
        refusals: puts them on record, started by its owner; None means one of its own.
    """

    def __init__(
        self,
        log: EventLog,
        pool: AsyncPool,
        database_url: str,
        agent_nats_urls: Sequence[str],
        name: str,
        *,
        clock: Clock = utc_now,
        new_id: NewId = fresh_id,
        lease_s: float = 60.0,
        told: Told | None = None,
        master_keys: MasterKeys = NO_KEYS,
        who_is_there: WhoIsThere | None = None,
        failures: FailureLimit | None = None,
        bounds: Bounds = Bounds(),  # noqa: B008 -- frozen
        catch_up: CatchUp | None = None,
        refusals: RefusalRecords | None = None,
    ) -> None:
        records = refusals or RefusalRecords(log, clock, new_id)
        self._own_refusals = records if refusals is None else None
        self._refusals = AgentRefusals(records, log)
        self._who_is_there = who_is_there
        self._asked: set[AgentId] = set()
        self._log = log
        self._pool = pool
        self._database_url = database_url
        self._nats_urls = list(agent_nats_urls)
        self._name = name
        self._clock = clock
        self._new_id = new_id
        self._told = told or Told()
        self._master_keys = master_keys
        self._leases = Leases(pool, HTTP, clock, lease_s=lease_s)
        self._failures = failures or FailureLimit(FAILURE_BURST, FAILURE_EVERY_S, time.monotonic)
        self._keys: KeysInUse | None = None
        self._desk: Desk | None = None
        self._waiters: dict[AgentId, set[asyncio.Event]] = {}
        self._present: dict[AgentId, float] = {}
        self._seen: set[AgentId] = set()
        self._seen_task: asyncio.Task[None] | None = None
        self._stopping = False
        self._bodies = BodyBudget(BODIES_BYTES)
        waiting = counting(lambda: pool.connection(timeout=POOL_S), catch_up)
        spend = bounds.tokens.spend if bounds.tokens is not None else None
        enrollment = Enrollment(log, clock, new_id, waiting, caps=bounds.caps, spend=spend)
        self._pace = bounds.agents
        self._enrolling = Enrolling(
            enrollment, self._nats_urls, self._told, self._failures, self._bodies, self._pace, self._refusals
        )
        self._under_way: Counter[AgentId] = Counter()
        self._check_ins = 0

    def routes(self) -> list[BaseRoute]:
        """With their paths below ``/api/v1``."""
        return [
            Route("/enroll", self.enroll, methods=["POST"]),
            Route("/agent/check-in", self.check_in, methods=["POST"]),
            Route(AUTHORITIES.removeprefix("/api/v1"), self.authorities, methods=["GET"]),
            Route(trust.WHOM_TO_TRUST_PATH.removeprefix("/api/v1"), self.whom_to_trust, methods=["GET"]),
        ]

    async def start(self) -> None:
        keys = KeysInUse(self._database_url, await wait_for_keys(self._database_url))
        self._desk = Desk(
            self._log,
            self._pool,
            keys,
            self._name,
            self._leases,
            self._clock,
            self._new_id,
            on_ended=lambda agent_id: self._wake((agent_id,)),
            on_pending=self._wake,
            on_room=self._wake,
            on_urgent=self._wake,
            on_contact=lambda _: None,
            seen=self._seen.add,
            on_checks=lambda _: None,  # they hear of it by their next hello
            restored=await last_restore(self._log),
            master_keys=self._master_keys,
            told=self._told,
        )
        self._runs = HttpRuns(
            self._pool,
            self._desk.duplicates,
            self._clock,
            self._name,
            ask=self._ask_for_life,
            on_noticed=self._desk.directory.forget,
            who_is_there=self._who_is_there,
        )
        await self._desk.hints.start()
        await self._desk.telemetry.start()
        await self._desk.check_lists.start()
        await self._desk.check_told.start()
        if self._own_refusals is not None:
            await self._own_refusals.start()
        self._seen_task = asyncio.create_task(self._flush_seen(), name="http-seen")
        self._keys = keys

    def leave(self) -> None:
        """End the long polls at once; their agents come again, to whoever is there."""
        self._stopping = True
        self._wake(list(self._waiters))

    async def stop(self) -> None:
        self.leave()
        if self._own_refusals is not None:
            await self._own_refusals.stop()
        if self._seen_task is not None:
            await end((self._seen_task,))
        if self._desk is not None:
            await self._desk.hints.stop()
            await self._desk.uplink.drain()
            await self._desk.telemetry.stop()
            await self._desk.check_lists.stop()
            await self._desk.check_told.stop()

    async def authorities(self, _request: Request) -> Response:
        """``GET /authorities``: whom this server's certificate is under. No secret; see `schema.authorities.pinned`."""
        self._told.look()
        if self._told.in_use is None:
            raise NoAuthorityError
        return Response(self._told.in_use, media_type="application/x-pem-file")

    async def whom_to_trust(self, _request: Request) -> Response:
        """``GET /agent/trust``: signed by the fleet's delivery key. No secret; see `schema.trust.WhomToTrust`."""
        if self._keys is None:
            raise StartingError
        self._told.look()
        chain = self._keys.keys.chain
        answer = trust.WhomToTrust(server_keys=chain.told(), trust=self._told.signed(self._keys.delivery, self._clock))
        return Response(wire.encode(answer), media_type="application/msgpack")

    # -- enrollment ------------------------------------------------------------------------------------------------

    async def enroll(self, request: Request) -> Response:
        """``POST /enroll``: see `Enrolling`."""
        if self._keys is None:
            raise StartingError
        return await self._enrolling.answer(request, self._keys, self._admit(request, Door.ENROLLMENT))

    def _admit(self, request: Request, door: Door) -> str:
        """The caller's address, unless it failed too often.

        Raises:
            TooManyFailuresError: it must wait.
        """
        address = _address(request)
        wait_s = self._failures.wait_s(place_of(address))
        if wait_s > 0:
            error = TooManyFailuresError(
                "Too many refused attempts came from this address; wait before the next.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )
            self._refusals.count(door, error)
            raise error
        return address

    # -- check-in --------------------------------------------------------------------------------------------------

    async def check_in(self, request: Request) -> Response:
        """``POST /agent/check-in``: what the agent has to say, and what there is for it."""
        try:
            return await self._check_in(request)
        except DomainError as error:
            metrics.REFUSED.labels(error.code).inc()
            if isinstance(error, ClockSkewError):
                return problem_response(request, error, server_time=self._clock())  # for the agent to set itself by
            raise

    async def _check_in(self, request: Request) -> Response:
        desk = self._desk
        if desk is None or self._keys is None:
            raise StartingError
        if self._check_ins >= MAX_CHECK_INS:
            raise OverloadedError(headers=retry_after(5.0))
        self._check_ins += 1
        try:
            with ExitStack() as held:
                return await self._received(request, desk, held)
        finally:
            self._check_ins -= 1

    async def _received(self, request: Request, desk: Desk, held: ExitStack) -> Response:
        address = self._admit(request, Door.CHECK_IN)
        body = await receive_body(request, MAX_CHECK_IN_BYTES, self._bodies, BODY_S, held)
        try:
            asked = _decode_check_in(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MalformedError(f"Not a check-in: {error}") from error
        if len(asked.messages) > MAX_MESSAGES or len(asked.replies) > MAX_MESSAGES:
            raise MalformedError(f"At most {MAX_MESSAGES} messages and as many replies fit into a check-in.")
        try:
            entry = await self._identify(desk, asked, body, request.headers.get(wire.HTTP_SIGNATURE_HEADER, ""))
            keep_pace(self._pace, str(entry.agent_id))
            await self._runs.admit(entry, asked.who, address)
        except DomainError as error:
            if isinstance(error, BadProofError | UnknownAgentError):
                self._failures.failed(place_of(address))
            await self._refusals.refused(Door.CHECK_IN, error, desk.directory, asked.agent_id, address)
            raise
        if self._under_way[entry.agent_id] >= MAX_CHECK_INS_OF_ONE:
            raise TooManyRequestsError("This agent has too many check-ins under way.", headers=retry_after(1.0))
        self._under_way[entry.agent_id] += 1
        try:
            return await self._answer(desk, entry, asked, request)
        finally:
            self._under_way[entry.agent_id] -= 1
            if not self._under_way[entry.agent_id]:
                del self._under_way[entry.agent_id]

    async def _answer(self, desk: Desk, entry: Entry, asked: wire.HttpCheckIn, request: Request) -> Response:
        await self._note_presence(desk, entry, asked.who, _address(request))
        for reply in asked.replies:
            await self._on_reply(desk, entry, reply)
        replies = await asyncio.gather(
            *(desk.uplink.handle(entry.agent_id, message, HTTP) for message in asked.messages)
        )
        # Uplink messages travel beside the long poll; were they answered with orders too, each order would come twice.
        polls = not asked.messages or asked.wait_s > 0
        # What it brought is kept as long as it waits: who brought much is not kept waiting.
        longest_s = MAX_WAIT_S if sum(map(len, asked.messages)) <= MAX_POLL_BYTES else 0.0
        wait_s = min(max(asked.wait_s, 0.0), longest_s)
        requests = await self._requests(desk, entry, wait_s, request, asked.who) if polls else []
        self._told.look()
        answer = wire.HttpCheckInReply(
            server_time=self._clock(),
            replies=list(replies),
            requests=requests,
            nats_urls=self._nats_urls,
            nats_ca=self._told.nats_ca,
        )
        return Response(wire.encode(answer), media_type="application/msgpack")

    async def _identify(self, desk: Desk, asked: wire.HttpCheckIn, body: bytes, signature: str) -> Entry:
        """Whose check-in it is.

        Sent again by somebody else within the five minutes, it changes nothing: every message in it may come twice.
        That nobody reads the answers is up to TLS.

        Raises:
            UnknownAgentError, BadProofError, ClockSkewError, AgentSuspendedError, AgentRetiredError: see there.
        """
        entry = await desk.directory.get(asked.agent_id)
        if entry is None:
            raise UnknownAgentError
        try:
            raw = bytes.fromhex(signature)
        except ValueError:
            raise BadProofError from None
        entry = await desk.proofs.judge(entry, raw, wire.HTTP_CONTEXT + body)
        if asked.sent_at.tzinfo is None or abs(self._clock() - asked.sent_at) > MAX_SKEW:
            raise ClockSkewError
        entry.must_be_active()
        must_not_be_barred(entry, asked.who)
        return entry

    async def _note_presence(self, desk: Desk, entry: Entry, who: wire.Instance | None, address: str) -> None:
        self._seen.add(entry.agent_id)
        now = time.monotonic()
        if self._present.get(entry.agent_id, 0.0) > now:
            return
        arrival = Arrival(agent_id=entry.agent_id, client_id=entry.client_id, address=address, transport=HTTP)
        await desk.presence.connected([arrival], self._name)
        self._present = {agent_id: until for agent_id, until in self._present.items() if until > now}
        self._present[entry.agent_id] = now + PRESENT_FOR_S
        await self._runs.seen_at_nats(entry, who, address)

    def _ask_for_life(self, agent_id: AgentId) -> None:
        """Have an agent's long poll, if it is here, answered: it comes again if it is there."""
        if agent_id in self._waiters:
            self._asked.add(agent_id)
            self._wake((agent_id,))

    async def _on_reply(self, desk: Desk, entry: Entry, data: bytes) -> None:
        """Record an answer to what the check-in before brought, and then let go of what is known now."""
        try:
            reply: wire.DownlinkReply = wire.decode_downlink_reply(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            metrics.UNANSWERED.labels("malformed").inc()
            _log.warning("agent_answer_unreadable", agent_id=str(entry.agent_id), error=str(error))
            return
        if isinstance(reply, wire.DeliveryReply):
            await desk.deliveries.accepted(entry.agent_id, reply.orders, self._name)
            for one in reply.orders:
                metrics.ORDERS.labels(one.status if one.status in STATUSES else "other").inc()
            await self._leases.answered(entry.agent_id, [one.command_id for one in reply.orders])
        elif isinstance(reply, wire.CancelReply):
            dropped = cancelled_by(reply, _ids(reply.statuses))
            gone = await desk.deliveries.cancelled(entry.agent_id, dropped)
            await self._leases.answered(entry.agent_id, list(gone))
        elif isinstance(reply, wire.Refused):
            metrics.UNANSWERED.labels("refused").inc()
            _log.warning("agent_refused", agent_id=str(entry.agent_id), code=reply.code, detail=reply.detail)

    async def _requests(
        self, desk: Desk, entry: Entry, wait_s: float, request: Request, who: wire.Instance | None
    ) -> list[bytes]:
        """What there is for the agent, as soon as there is any."""
        deadline = time.monotonic() + wait_s
        woken = asyncio.Event()
        self._waiters.setdefault(entry.agent_id, set()).add(woken)
        try:
            while True:
                woken.clear()
                found = await self._look(desk, entry.agent_id)
                left_s = deadline - time.monotonic()
                if found or left_s <= 0 or self._stopping:
                    return found
                if entry.agent_id in self._asked:
                    # Somebody waits to hear whether it is there: it will come again, or has hung up.
                    if await request.is_disconnected():
                        await self._runs.gone(entry.agent_id, who)
                    return []
                try:
                    async with asyncio.timeout(min(left_s, LOOK_EVERY_S)):
                        await woken.wait()
                except TimeoutError:
                    continue
        finally:
            waiters = self._waiters[entry.agent_id]
            waiters.discard(woken)
            if not waiters:
                del self._waiters[entry.agent_id]
                self._asked.discard(entry.agent_id)

    async def _look(self, desk: Desk, agent_id: AgentId) -> list[bytes]:
        await desk.directory.active(agent_id)
        # Asked without a lease first: most looks find nothing, and what this process holds already it takes again.
        if not await self._leases.wanting([agent_id]):
            return []
        found: list[bytes] = []
        for handover in await self._leases.take([agent_id], again=True):
            if handover.cancels:
                found.append(desk.orders.cancel(agent_id, handover.cancels))
            if handover.orders:
                packed = desk.orders.pack(agent_id, handover.orders, await desk.orders.prepare(handover.orders))
                if packed.rejected:
                    await desk.deliveries.accepted(agent_id, packed.rejected, self._name)
                if packed.withdrawn:
                    uncertain = dict.fromkeys(packed.withdrawn, handover.uncertain)
                    await desk.deliveries.withdrawn(uncertain, self._name)
                if packed.rows:
                    found.append(packed.message)
        return found

    def _wake(self, agent_ids: Sequence[AgentId]) -> None:
        for agent_id in agent_ids:
            for event in self._waiters.get(agent_id, ()):
                event.set()

    async def _flush_seen(self) -> None:
        while True:
            await asyncio.sleep(SEEN_EVERY_S)
            seen = set(self._seen)
            try:
                await self._runs.asked()
                if seen:
                    await touch(self._pool, seen, self._name)
            except (psycopg.OperationalError, EventLogError) as error:
                _log.info("presence_waiting", error=str(error).strip())
            else:
                self._seen -= seen


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _ids(texts: dict[str, str]) -> list[UUID]:
    found = []
    for text in texts:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found
