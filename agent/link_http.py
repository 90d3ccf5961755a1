"""The last resort: the same messages in HTTP check-ins. One long poll waits for orders; uplinks go beside it."""

import asyncio
import functools
import http.client
import logging
import random
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec

from agent.clock import ServerClock
from agent.errors import ClockSkewError, LaterError, LinkError
from agent.identity import AgentKey, Identity
from agent.link import OnRequest
from agent.threads import in_thread
from schema import authorities, wire

log = logging.getLogger("fleetlog.agent.link")

PATH = "/api/v1/agent/check-in"
_WAIT_S = 25.0
_SLACK_S = 15.0
_LATER = (429, 503)
_LONGEST_LATER_S = 120.0
_PROBLEM_BYTES = 4096
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
"""Between polls of a machine that takes no orders just now: they are there, so no poll has anything to wait for."""
_FAILURES = 3
"""Polls that may fail in a row before the connection counts as lost."""

Post = Callable[[bytes, str, float], bytes]
"""Sends a check-in's body with its signature, within a time; raises LinkError."""

OnNats = Callable[[list[str], str | None], None]
"""Told that NATS is elsewhere now: its addresses, and its certificate authority where that is not a public one."""

_encode = msgspec.msgpack.Encoder().encode


class _Problem(msgspec.Struct):
    """What matters here of the server's problem details (RFC 9457)."""

    code: str = ""
    server_time: datetime | None = None


_decode_problem = msgspec.json.Decoder(_Problem).decode
_decode_reply = msgspec.msgpack.Decoder(wire.HttpCheckInReply).decode


def post_to(url: str, ca: str | None = None) -> Post:
    """A `Post` for a server's address; honours the usual proxy variables.

    Args:
        url: of the server.
        ca: PEM: whom to trust there, and nobody else; without it, whom the system trusts.
    """
    context = authorities.trusting(ca) if url.startswith("https://") else None

    def post(body: bytes, signature: str, timeout_s: float) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - enrollment accepts http and https alone
            url.rstrip("/") + PATH,
            data=body,
            headers={"Content-Type": "application/msgpack", wire.HTTP_SIGNATURE_HEADER: signature},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s, context=context) as response:  # noqa: S310 - as above
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read(_PROBLEM_BYTES), error.headers.get("Retry-After")) from error
        except (OSError, http.client.HTTPException) as error:
            raise LinkError(str(error) or type(error).__name__) from error

    return post


def _refusal(status: int, body: bytes, retry_after: str | None) -> LinkError:
    detail = f"The server answered {status}: {body[:300]!r}"
    if status in _LATER:
        return LaterError(detail, _seconds(retry_after), full=True)
    try:
        problem = _decode_problem(body)
    except msgspec.MsgspecError:  # not from Fleetlog: a proxy's page
        return LinkError(detail)
    if problem.code == ClockSkewError.code and problem.server_time is not None:
        return ClockSkewError(detail, problem.server_time)
    return LinkError(detail)


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After in seconds; one that gives a date, or makes no sense, counts as none."""
    text = (retry_after or "").strip()
    return min(float(text), _LONGEST_LATER_S) if text.isascii() and text.isdecimal() else None


async def connect(
    identity: Identity,
    key: AgentKey,
    clock: ServerClock,
    on_request: OnRequest,
    on_nats: OnNats,
    post: Post | None = None,
    *,
    who: wire.Instance | None = None,
) -> "HttpSession":
    """Check in once; if that works, keep doing so.

    Raises:
        LinkError: the server cannot be reached, or does not let this agent in.
    """
    session = HttpSession(
        identity, key, clock, on_request, on_nats, post or post_to(identity.server_url, identity.server_ca), who
    )
    await session.open()
    return session


class HttpSession:
    """A series of check-ins."""

    transport = "http"

    def __init__(
        self,
        identity: Identity,
        key: AgentKey,
        clock: ServerClock,
        on_request: OnRequest,
        on_nats: OnNats,
        post: Post,
        who: wire.Instance | None = None,
    ) -> None:
        self._who = who
        self._agent_id = identity.agent_id
        self._nats = (identity.nats_urls, identity.nats_ca)
        self._on_nats = on_nats
        self._key = key
        self._clock = clock
        self._on_request = on_request
        self._post = post
        self._replies: list[bytes] = []
        self._turned_down = False
        """Orders were not taken, and may be later, since this was last looked at."""
        self._news = False
        """Orders were taken, and the server is yet to be told."""
        self._poll: asyncio.Task[str] | None = None

    async def open(self) -> None:
        """Check in once, and go on with the long poll."""
        await self._check_in([], 0.0)
        self._poll = asyncio.create_task(self._keep_polling())

    async def request(self, kind: str, data: bytes, timeout_s: float) -> bytes:
        """See `agent.link.Session`."""
        _ = kind
        try:
            async with asyncio.timeout(timeout_s):
                answers = await self._check_in([data], 0.0)
        except TimeoutError:
            raise LinkError("The check-in took too long.") from None
        if len(answers) != 1:
            raise LinkError(f"{len(answers)} answers came to one message.")
        return answers[0]

    async def live(self, command_id: UUID, data: bytes) -> None:
        """Live output is not worth a request of its own here: the whole comes with the result."""

    async def lost(self) -> str:
        """See `agent.link.Session`."""
        return "closed" if self._poll is None else await asyncio.shield(self._poll)

    async def close(self) -> None:
        """See `agent.link.Session`."""
        if self._poll is not None:
            self._poll.cancel()
            # Not by awaiting it with its cancellation suppressed: that would suppress the caller's own as well.
            await asyncio.wait([self._poll])

    async def _keep_polling(self) -> str:
        failures, pause_s = 0, 0.0
        while True:
            saying = bool(self._replies)
            try:
                # What has been answered is said at once; only then is there time to wait.
                await self._check_in([], 0.0 if saying else _WAIT_S)
            except LinkError as error:
                failures += 1
                if failures >= _FAILURES:
                    return str(error)
                asked_s = error.again_s if isinstance(error, LaterError) else None
                await asyncio.sleep(max(failures, asked_s or 0.0) * random.uniform(1.0, 1.5))  # noqa: S311 - spreads load
            else:
                failures = 0
                if not self._turned_down:
                    pause_s = 0.0
                elif saying:  # what it did take has been said
                    self._turned_down = False
                    pause_s = min(pause_s * 2 or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
                    await asyncio.sleep(pause_s * random.uniform(1.0, 1.5))  # noqa: S311 - spreads load

    async def _check_in(self, messages: list[bytes], wait_s: float) -> list[bytes]:
        answers = await self._check_in_by_any_clock(messages, wait_s)
        # The long poll may wait for long yet; the server must hear now that the orders are on disk. Not of those that
        # were turned down: it would send them once more, and so on, before anybody looks at the answer.
        while self._news and self._poll is not None and asyncio.current_task() is not self._poll:
            await self._check_in_by_any_clock([], 0.0)
        return answers

    async def _check_in_by_any_clock(self, messages: list[bytes], wait_s: float) -> list[bytes]:
        try:
            return await self._try_check_in(messages, wait_s)
        except ClockSkewError as error:
            # Of a server that was never heard, this machine's own clock told the time, and that may say anything; and
            # the server's may have been set since.
            self._clock.heard(error.server_time, 0.0)
            return await self._try_check_in(messages, wait_s)

    async def _try_check_in(self, messages: list[bytes], wait_s: float) -> list[bytes]:
        replies, self._replies, self._news = self._replies, [], False
        body = _encode(
            wire.HttpCheckIn(
                agent_id=self._agent_id,
                sent_at=self._clock.latest_heard,
                messages=messages,
                replies=replies,
                who=self._who,
                wait_s=wait_s,
            )
        )
        signature = self._key.sign(wire.HTTP_CONTEXT + body).hex()
        try:
            raw = await in_thread(functools.partial(self._post, body, signature, wait_s + _SLACK_S))
            answer = _decode_reply(raw)
        except BaseException as error:
            # Saying an answer twice does no harm; the poll does so, with the pauses that it makes.
            self._replies = replies + self._replies
            if isinstance(error, msgspec.MsgspecError):
                raise LinkError(f"The check-in's answer makes no sense: {error}") from error
            raise
        if not wait_s:
            self._clock.heard(answer.server_time, 0.0)
        nats = (answer.nats_urls, answer.nats_ca)
        if answer.nats_urls and nats != self._nats:
            self._nats = nats
            self._on_nats(*nats)
        for request in answer.requests:
            reply = await self._on_request(request)
            turned_down = _is_turned_down(reply)
            self._turned_down |= turned_down
            self._news |= not turned_down
            self._replies.append(reply)
        return answer.replies


def _is_turned_down(reply: bytes) -> bool:
    """Whether the agent has not taken some orders, and may take them later."""
    said = wire.decode_downlink_reply(reply)
    if isinstance(said, wire.Refused):
        return not said.permanent
    return isinstance(said, wire.DeliveryReply) and any(order.status == "busy" for order in said.orders)
