"""A machine comes in: one use of a token and the agent's first event, in one append; or it waits for approval.

The same key with the same token is the same machine asking again, since it did not hear the answer: it is told the
same, and uses up nothing. One that waits asks in the same way whether it was decided.
"""

import asyncio
import hashlib
import hmac
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import msgspec

from command_bus.context import Clock, NewId
from command_bus.credentials import TOKEN_PREFIX, parse
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog
from command_bus.repository import load, load_existing
from domain.agents import Agent, AgentEnrolled, Platform
from domain.enrollments import EnrollmentRequested, WaitingEnrollment, enrollment_stream
from domain.errors import (
    EnrollmentsFullError,
    EnrollmentsTooFastError,
    EnrollmentWaitingError,
    InvalidValueError,
    NotFoundError,
    UnknownTokenError,
)
from domain.event import Change, Metadata
from domain.idempotency import AcceptedIntent, IntentAccepted
from domain.ids import AgentId, ClientId, SiteId, TokenId
from domain.names import clean_name
from domain.tokens import EnrollmentToken
from schema.wire import EnrollRequest

MAX_TRIES = 50
TURN_S = 10.0
"""How long a machine waits for its turn to be counted."""
FULL_RETRY_S = 60
"""When a machine may come again that found as many waiting as may."""
_INTENT = "Enroll"
_KEY_DIGITS = 64


class Enrolled(msgspec.Struct, frozen=True):
    agent_id: AgentId
    site_id: SiteId
    client_id: ClientId
    position: int


_decode = msgspec.json.Decoder(Enrolled).decode

CountWaiting = Callable[[UUID, UUID], Awaitable[tuple[int, int, int]]]
"""How many machines wait for approval by one token, of one client, and in all; no fewer than the log says then."""
Spend = Callable[[str], float]
"""Take one enrollment of a token's; returns 0, or in how many seconds there will be one."""


class Caps(msgspec.Struct, frozen=True):
    """How many machines may wait for approval."""

    per_token: int = 100
    in_all: int = 1_000

    def hold(self, by_token: int, of_client: int, in_all: int) -> bool:
        """Whether one more may wait, beside so many.

        Of one client no more may than places are left (Choudhury and Hahne, "Dynamic queue length thresholds for
        shared-memory packet switches", 1998): whoever floods takes half of them, and never the last of another's.

        Args:
            by_token: that wait by its token.
            of_client: that wait of its client.
            in_all: that wait.
        """
        return by_token < self.per_token and of_client < self.in_all - in_all


class Enrollment:
    """Lets machines in. That the machine holds the private half of its key is for the adapter to check.

    Args:
        log: the event log.
        clock: now.
        new_id: a fresh version 7 UUID.
        waiting: counts the machines that wait; asked by one request at a time.
        caps: how many there may be.
        spend: holds each token to its pace; None lets machines in as fast as they come.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        new_id: NewId,
        waiting: CountWaiting,
        *,
        caps: Caps = Caps(),  # noqa: B008 -- frozen
        spend: Spend | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._new_id = new_id
        self._waiting = waiting
        self._caps = caps
        self._spend = spend
        self._one_at_a_time = asyncio.Lock()

    async def enroll(self, request: EnrollRequest, address: str = "") -> Enrolled:
        """Use a token and record the agent; or, where the token asks for approval, that the machine waits.

        Args:
            request: of the machine.
            address: from where it came.

        Raises:
            UnknownTokenError, TokenExpiredError, TokenUsedUpError, TokenRevokedError: the token does not open the door.
            InvalidValueError: hostname, platform or key are not what they should be.
            EnrollmentWaitingError: it is no agent yet, and on record: somebody has to approve it.
            EnrollmentRefusedError, EnrollmentExpiredError: it waited for approval, and will not get it.
            EnrollmentsFullError, EnrollmentsTooFastError: it is to come later.
            BusyStreamError: so many machines used the token in this instant that this one lost each race.
        """
        platform = _platform(request.platform)
        hostname = clean_name(request.hostname, what="hostname")
        public_key = _public_key(request.public_key)
        parsed = parse(TOKEN_PREFIX, request.token)
        if parsed is None:
            raise UnknownTokenError
        token_id, secret_sha256 = parsed
        machine = _Machine(
            hostname=hostname,
            platform=platform,
            arch=clean_name(request.arch, what="arch"),
            agent_version=clean_name(request.agent_version, what="agent_version"),
            public_key=public_key,
        )
        for attempt in range(MAX_TRIES):
            try:
                token = await load_existing(self._log, EnrollmentToken, token_id, "enrollment token")
            except NotFoundError:
                raise UnknownTokenError from None
            if not hmac.compare_digest(token.secret_sha256, secret_sha256):
                raise UnknownTokenError
            try:
                if token.wait_s is not None:
                    return await self._wait(token, token.wait_s, machine, address, first=attempt == 0)
                return await self._enroll(token, machine, first=attempt == 0)
            except ConflictError:
                continue
        raise BusyStreamError

    def _let_pass(self, token: EnrollmentToken, *, first: bool) -> None:
        """Refuse who comes by a token that does not open, or for the first time and too fast after others."""
        token.must_open(self._clock())
        wait_s = self._spend(str(token.stream_id)) if first and self._spend is not None else 0.0
        if wait_s > 0:
            raise EnrollmentsTooFastError(retry_after_s=math.ceil(wait_s))

    async def _enroll(self, token: EnrollmentToken, machine: "_Machine", *, first: bool) -> Enrolled:
        asked = _Asked(token.stream_id, machine.public_key)
        before = await load(self._log, AcceptedIntent, asked.stream_id)
        if (told := before.answer(_INTENT, asked.sha256)) is not None:
            return msgspec.structs.replace(_decode(told), position=await self._position(asked.stream_id))
        self._let_pass(token, first=first)
        agent = Agent(self._new_id())
        agent_id = AgentId(agent.stream_id)
        used = token.use(agent_id, self._clock())
        enrolled = agent.enroll(
            AgentEnrolled(
                site_id=token.site_id,
                client_id=token.client_id,
                token_id=TokenId(token.stream_id),
                hostname=machine.hostname,
                platform=machine.platform,
                arch=machine.arch,
                agent_version=machine.agent_version,
                public_key=machine.public_key,
            )
        )
        answer = Enrolled(agent_id, token.site_id, token.client_id, 0)
        changes = [used, enrolled, asked.answered(before, answer)]
        positions = await self._log.append(changes, _by(agent_id, token))
        return msgspec.structs.replace(answer, position=positions[-1])

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Alone in this process, so that nobody is let wait by a count that others are about to change."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            raise BusyStreamError from None
        try:
            yield
        finally:
            self._one_at_a_time.release()

    async def _position(self, stream_id: UUID) -> int:
        return (await self._log.read_heads([stream_id]))[stream_id].position

    async def _wait(
        self, token: EnrollmentToken, wait_s: int, machine: "_Machine", address: str, *, first: bool
    ) -> Enrolled:
        stream_id = enrollment_stream(token.stream_id, machine.public_key)
        waiting = await load(self._log, WaitingEnrollment, stream_id)
        if waiting.exists:
            known = waiting.requested
            if not waiting.admitted(self._clock()):
                raise _waits(waiting, known_before=True)
            return Enrolled(known.agent_id, known.site_id, known.client_id, await self._position(stream_id))
        self._let_pass(token, first=first)
        agent_id = AgentId(self._new_id())
        expires_at = self._clock() + timedelta(seconds=wait_s)
        requested = waiting.request(
            EnrollmentRequested(
                agent_id=agent_id,
                token_id=TokenId(token.stream_id),
                site_id=token.site_id,
                client_id=token.client_id,
                hostname=machine.hostname,
                platform=machine.platform,
                arch=machine.arch,
                agent_version=machine.agent_version,
                public_key=machine.public_key,
                address=address,
                expires_at=expires_at,
            )
        )
        async with self._turn():
            if not self._caps.hold(*await self._waiting(token.stream_id, token.client_id)):
                raise EnrollmentsFullError(retry_after_s=FULL_RETRY_S)
            await self._log.append([requested], _by(agent_id, token))
        raise _waits(waiting, known_before=False)


def _waits(waiting: WaitingEnrollment, *, known_before: bool) -> EnrollmentWaitingError:
    return EnrollmentWaitingError(
        enrollment_id=str(waiting.stream_id), expires_at=waiting.requested.expires_at, known_before=known_before
    )


class _Machine(msgspec.Struct, frozen=True):
    """What one says of itself."""

    hostname: str
    platform: Platform
    arch: str
    agent_version: str
    public_key: str


def _by(agent_id: AgentId, token: EnrollmentToken) -> Metadata:
    return Metadata(actor=f"agent:{agent_id}", correlation_id=agent_id, causation_id=token.stream_id)


class _Asked:
    """One machine's wish to come in by one token."""

    def __init__(self, token_id: UUID, public_key: str) -> None:
        self._public_key = public_key
        self.stream_id = AcceptedIntent.id_of(f"token:{token_id}", public_key)
        self.sha256 = hashlib.sha256(f"{token_id}:{public_key}".encode()).hexdigest()

    def answered(self, before: AcceptedIntent, answer: Enrolled) -> Change:
        told = msgspec.json.encode(answer).decode()
        return before.accept(
            IntentAccepted(key=self._public_key, intent=_INTENT, request_sha256=self.sha256, response=told)
        )


def _platform(text: str) -> Platform:
    try:
        return Platform(text)
    except ValueError:
        raise InvalidValueError(f"platform: one of {', '.join(Platform)}, not {text!r}.") from None


def _public_key(text: str) -> str:
    try:
        good = len(text) == _KEY_DIGITS and bool(bytes.fromhex(text))
    except ValueError:
        good = False
    if not good:
        raise InvalidValueError("public_key: 32 bytes in hex (Ed25519).")
    return text.lower()
