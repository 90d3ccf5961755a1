"""A machine comes in: one use of a token and the agent's first event, in one append.

The same key with the same token is the same machine asking again, since it did not hear the answer: it is told the
same, and uses up nothing.
"""

import hashlib
import hmac
from uuid import UUID

import msgspec

from command_bus.context import Clock, NewId
from command_bus.credentials import TOKEN_PREFIX, parse
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog
from command_bus.repository import load, load_existing
from domain.agents import Agent, AgentEnrolled, Platform
from domain.errors import InvalidValueError, NotFoundError, UnknownTokenError
from domain.event import Change, Metadata
from domain.idempotency import AcceptedIntent, IntentAccepted
from domain.ids import AgentId, ClientId, SiteId, TokenId
from domain.names import clean_name
from domain.tokens import EnrollmentToken
from schema.wire import EnrollRequest

MAX_TRIES = 50
_INTENT = "Enroll"
_KEY_DIGITS = 64


class Enrolled(msgspec.Struct, frozen=True):
    agent_id: AgentId
    site_id: SiteId
    client_id: ClientId
    position: int


_decode = msgspec.json.Decoder(Enrolled).decode


class Enrollment:
    """Lets machines in. That the machine holds the private half of its key is for the adapter to check."""

    def __init__(self, log: EventLog, clock: Clock, new_id: NewId) -> None:
        self._log = log
        self._clock = clock
        self._new_id = new_id

    async def enroll(self, request: EnrollRequest) -> Enrolled:
        """Use a token and record the agent.

        Raises:
            UnknownTokenError, TokenExpiredError, TokenUsedUpError, TokenRevokedError: the token does not open the door.
            InvalidValueError: hostname, platform or key are not what they should be.
            BusyStreamError: so many machines used the token in this instant that this one lost each race.
        """
        platform = _platform(request.platform)
        hostname = clean_name(request.hostname, what="hostname")
        public_key = _public_key(request.public_key)
        parsed = parse(TOKEN_PREFIX, request.token)
        if parsed is None:
            raise UnknownTokenError
        token_id, secret_sha256 = parsed
        for _ in range(MAX_TRIES):
            try:
                token = await load_existing(self._log, EnrollmentToken, token_id, "enrollment token")
            except NotFoundError:
                raise UnknownTokenError from None
            if not hmac.compare_digest(token.secret_sha256, secret_sha256):
                raise UnknownTokenError
            asked = _Asked(token_id, public_key)
            before = await load(self._log, AcceptedIntent, asked.stream_id)
            if (told := before.answer(_INTENT, asked.sha256)) is not None:
                position = (await self._log.read_heads([asked.stream_id]))[asked.stream_id].position
                return msgspec.structs.replace(_decode(told), position=position)
            agent = Agent(self._new_id())
            agent_id = AgentId(agent.stream_id)
            used = token.use(agent_id, self._clock())
            enrolled = agent.enroll(
                AgentEnrolled(
                    site_id=token.site_id,
                    client_id=token.client_id,
                    token_id=TokenId(token_id),
                    hostname=hostname,
                    platform=platform,
                    arch=clean_name(request.arch, what="arch"),
                    agent_version=clean_name(request.agent_version, what="agent_version"),
                    public_key=public_key,
                )
            )
            metadata = Metadata(actor=f"agent:{agent_id}", correlation_id=agent_id, causation_id=token_id)
            answer = Enrolled(agent_id, token.site_id, token.client_id, 0)
            try:
                positions = await self._log.append([used, enrolled, asked.answered(before, answer)], metadata)
            except ConflictError:
                continue
            return msgspec.structs.replace(answer, position=positions[-1])
        raise BusyStreamError


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
