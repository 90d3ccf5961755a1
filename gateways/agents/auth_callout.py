"""NATS asks at each connect who may come in, and with which rights; this answers.

The proof is the agent's signature over the nonce that the NATS server made for this very connection; the server passes
both on in its request. So nothing that was sent before, over this connection or another, opens the door again. The
agent signs the nonce behind a context of its own (`wire.NATS_CONTEXT`): were it the bare nonce, a stolen broker could
send the body of an HTTP check-in as its nonce and get it signed.

Only NATS servers can ask: the request comes on a ``$SYS`` subject of our account, to which no agent may publish.

An address from which too many wrong proofs came is turned away unheard for a while (`gateways.agents.wrong_proofs`).
"""

import base64
import binascii
import json
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from command_bus.event_log import EventLogError
from domain.errors import DomainError
from domain.refusals import Door
from gateways.agents import metrics
from gateways.agents.directory import Directory, Entry, UnknownAgentError
from gateways.agents.duplicates import Doorkeeper
from gateways.agents.keys import Key
from gateways.agents.nats_config import ACCOUNT
from gateways.agents.newest_first import NewestFirst
from gateways.agents.proofs import BadProofError, Proofs
from gateways.agents.refusals import AgentRefusals
from gateways.agents.tasks import Tasks
from gateways.agents.wrong_proofs import WrongProofs
from gateways.rest.errors import TooManyFailuresError
from schema import wire

_log = structlog.get_logger()
SUBJECT = "$SYS.REQ.USER.AUTH"
_RESPONSE_TTL_NS = 120 * 1_000_000_000
_MAX_SUBSCRIPTIONS = 16
PENDING_CONNECTS = 50_000


class TooLateError(DomainError):
    """It has given up by now."""

    code = "too_late"
    status = 503


class _ClientInfo(msgspec.Struct):
    id: int = 0
    host: str = ""
    nonce: str = ""


class _ConnectOptions(msgspec.Struct):
    name: str = ""
    auth_token: str = ""
    sig: str = ""


class _ServerId(msgspec.Struct):
    id: str


class _Request(msgspec.Struct):
    server_id: _ServerId
    user_nkey: str
    client_info: _ClientInfo
    connect_opts: _ConnectOptions


class _Claims(msgspec.Struct):
    nats: _Request


_decode_claims = msgspec.json.Decoder(_Claims).decode


def permissions(agent_id: UUID) -> dict[str, Any]:
    """What one agent may do (invariant 8): speak under its own id, hear its own commands and the answers to itself."""
    return {
        "pub": {"allow": [f"fleet.{agent_id}.up.*", f"fleet.{agent_id}.out.*"]},
        "sub": {"allow": [wire.command_subject(agent_id), f"{wire.inbox_prefix(agent_id)}.>"]},
        # An answer to a request on its command subject, and nothing else outside of its own subjects.
        "resp": {"max": 1, "ttl": _RESPONSE_TTL_NS},
    }


def sign_claims(claims: dict[str, Any], key: Key, at: datetime) -> str:
    """A token as NATS wants it: a JWT signed by an nkey."""
    body = claims | {"iss": key.account_nkey, "iat": int(at.timestamp()), "jti": secrets.token_hex(16)}
    head = _b64({"typ": "JWT", "alg": "ed25519-nkey"})
    text = f"{head}.{_b64(body)}"
    return f"{text}.{base64.urlsafe_b64encode(key.sign(text.encode())).rstrip(b'=').decode()}"


def _b64(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


class AuthCallout:
    """Answers for one gateway; gateways share the requests.

    Args:
        client: the gateway's connection.
        directory: of agents.
        proofs: judges what they show.
        doorkeeper: tells an agent from its clones.
        issuer: the key that the NATS server's configuration names; asked for each time.
        clock: now.
        wrong: counts wrong proofs.
        refusals: puts them on record.
    """

    def __init__(
        self,
        client: Client,
        directory: Directory,
        proofs: Proofs,
        doorkeeper: Doorkeeper,
        issuer: Callable[[], Key],
        clock: Callable[[], datetime],
        wrong: WrongProofs,
        refusals: AgentRefusals,
    ) -> None:
        self._client = client
        self._directory = directory
        self._proofs = proofs
        self._doorkeeper = doorkeeper
        self._issuer = issuer
        self._clock = clock
        self._wrong = wrong
        self._refusals = refusals
        self._tasks = Tasks("auth-callout")
        self._turns = NewestFirst(wire.LET_IN_S)
        self._subscription: Any = None

    async def start(self) -> None:
        self._subscription = await self._client.subscribe(
            SUBJECT, queue=wire.GATEWAY_QUEUE, cb=self._on_request, pending_msgs_limit=PENDING_CONNECTS
        )

    async def stop(self) -> None:
        if self._subscription is not None and self._client.is_connected:
            await self._subscription.unsubscribe()
        await self._tasks.drain(5.0)

    async def _on_request(self, message: Msg) -> None:
        # A task each, so that the lookups of agents that come together are one read. Whose request is not answered is
        # turned away by the NATS server when its time is up, and comes again.
        if self._tasks.full:
            metrics.CONNECTS_REFUSED.labels("overloaded").inc()
            return
        self._tasks.spawn(self._answer(message))

    async def _answer(self, message: Msg) -> None:
        try:
            request = _decode_claims(_payload(message.data)).nats
        except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
            _log.warning("auth_request_unreadable", error=str(error))
            metrics.CONNECTS_REFUSED.labels("malformed").inc()
            return
        try:
            entry = await self._judge(request)
        except TooLateError as error:
            metrics.CONNECTS_REFUSED.labels(error.code).inc()
            return
        except TooManyFailuresError as error:
            # Each that led to it left a line; these would fill the log.
            metrics.CONNECTS_REFUSED.labels(error.code).inc()
            self._refusals.count(Door.CONNECT, error)
            await self._respond(message, request, {"error": error.code})
            return
        except (DomainError, EventLogError) as error:
            metrics.CONNECTS_REFUSED.labels(error.code).inc()
            # The name is whatever the stranger sent: cut short, and only ever logged as a value.
            claimed = request.connect_opts.auth_token[:64]
            _log.warning("connect_refused", code=error.code, agent_id=claimed, address=request.client_info.host)
            await self._respond(message, request, {"error": error.code})
            if isinstance(error, DomainError):
                address = request.client_info.host
                await self._refusals.refused(Door.CONNECT, error, self._directory, _claimed(request), address)
            return
        metrics.CONNECTS_ALLOWED.inc()
        user = sign_claims(
            {
                "sub": request.user_nkey,
                "aud": ACCOUNT,
                "name": str(entry.agent_id),
                "nats": {
                    **permissions(entry.agent_id),
                    "subs": _MAX_SUBSCRIPTIONS,
                    "data": -1,
                    "payload": -1,
                    "type": "user",
                    "version": 2,
                },
            },
            self._issuer(),
            self._clock(),
        )
        await self._respond(message, request, {"jwt": user})

    async def _judge(self, request: _Request) -> Entry:
        """Whose connection it is.

        Raises:
            UnknownAgentError, BadProofError, AgentSuspendedError, AgentRetiredError, DuplicateAgentError: nobody's that
                may come in.
            TooManyFailuresError: its address was wrong too often.
            TooLateError: too many came at once.
        """
        if not request.client_info.nonce:
            raise BadProofError("The NATS server gave no nonce to sign; its configuration is not Fleetlog's.")
        address, claimed = request.client_info.host, _claimed(request)
        self._wrong.must_have_room(claimed, address)
        try:
            entry = await self._prove(request, claimed)
        except (UnknownAgentError, BadProofError):
            self._wrong.failed(claimed, address)
            raise
        self._wrong.proved(entry.agent_id, address)
        # Only the holder of the key learns what state the agent is in.
        entry.must_be_active()
        who = wire.read_connection_name(request.connect_opts.name)
        await self._doorkeeper.admit(entry, who, address)
        return entry

    async def _prove(self, request: _Request, claimed: UUID | None) -> Entry:
        entry = await self._directory.get(claimed) if claimed is not None else None
        if entry is None:
            raise UnknownAgentError
        # From here on it costs: three signatures each, and a whole fleet may have come.
        if not await self._turns.turn():
            raise TooLateError
        # Many may have come together, and those before it been wrong.
        self._wrong.must_have_room(claimed, request.client_info.host)
        try:
            signature = base64.b64decode(request.connect_opts.sig, validate=True)
        except binascii.Error:
            raise BadProofError from None
        signed = wire.NATS_CONTEXT + request.client_info.nonce.encode()
        return await self._proofs.judge(entry, signature, signed)

    async def _respond(self, message: Msg, request: _Request, answer: dict[str, str]) -> None:
        claims = {
            "sub": request.user_nkey,
            "aud": request.server_id.id,
            "nats": {**answer, "type": "authorization_response", "version": 2},
        }
        await message.respond(sign_claims(claims, self._issuer(), self._clock()).encode())


def _claimed(request: _Request) -> UUID | None:
    try:
        return UUID(request.connect_opts.auth_token)
    except ValueError:
        return None


def _payload(token: bytes) -> bytes:
    part = token.split(b".")[1] if token.count(b".") == 2 else b""  # noqa: PLR2004 -- head.body.signature
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
