"""Enrollment: one HTTPS request with a token, after which this machine is an agent, or waits for approval.

While it waits, what it asks with is on disk, and it asks the same again: so it may be killed, or switched off, and goes
on where it was. The key is made once, before the first request.
"""

import asyncio
import contextlib
import http.client
import os
import random
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from agent import VERSION
from agent.errors import (
    AlreadyEnrolledError,
    AlreadyRunningError,
    EnrollmentLaterError,
    EnrollmentRefusedError,
    EnrollmentWaitingError,
    NotEnrolledError,
    StateDamagedError,
)
from agent.facts import arch
from agent.identity import LOCK_FILE, PENDING_FILE, AgentKey, Identity
from agent.platforms import PLATFORM
from agent.threads import in_thread
from schema import authorities, wire
from schema.fingerprints import key_fingerprint

_TIMEOUT_S = 30
_WAITING = "enrollment_waiting"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class Pending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What this machine asks with until it is decided. Readable by its owner alone, as the token is a credential."""

    server_url: str
    token: str
    name: str = ""
    """What to call the machine."""
    server_ca: str | None = None

    @classmethod
    def load(cls, state_dir: Path) -> "Pending | None":
        """Read it; None where nothing is pending.

        Raises:
            StateDamagedError: the file is not what this program wrote.
        """
        path = state_dir / PENDING_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise StateDamagedError(f"{path} cannot be read: {error}") from error

    def save(self, state_dir: Path) -> None:
        PLATFORM.write_private(state_dir / PENDING_FILE, msgspec.json.format(msgspec.json.encode(self), indent=2))


def enroll(
    url: str,
    token: str,
    state_dir: Path,
    *,
    name: str | None = None,
    ca: str | None = None,
    fingerprint: str | None = None,
) -> Identity:
    """Enroll this machine and keep what it became.

    The key is on disk before the request: if the answer is lost on its way, trying again comes with the same key.

    Args:
        url: the server's address, ``https://...`` (or ``http://...``).
        token: the enrollment token.
        state_dir: where the identity is kept.
        name: what to call the machine, if not its hostname.
        ca: PEM: the authority that the server's certificate must be under.
        fingerprint: the same by its SHA-256 alone; the server is asked for it, and believed if it is that one.

    Raises:
        AlreadyEnrolledError: the state directory holds an identity.
        EnrollmentRefusedError: the server refused, cannot be reached, or is no Fleetlog.
        EnrollmentWaitingError: somebody has to approve this machine first: see `until_decided`.
    """
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise EnrollmentRefusedError(f"{url!r} is no address: it must start with https:// or http://.")
    ca, context = _trusted(url, ca, fingerprint)
    PLATFORM.make_private_dir(state_dir, passable=True)
    try:
        known = Identity.load(state_dir)
    except NotEnrolledError:
        pass
    else:
        raise AlreadyEnrolledError(
            f"This machine is agent {known.agent_id} of {known.server_url} already (state in {state_dir})."
        )
    pending = Pending(server_url=url.rstrip("/"), token=token, name=name or socket.gethostname(), server_ca=ca)
    try:
        return _ask_once(pending, state_dir, context)
    except EnrollmentWaitingError:
        pending.save(state_dir)
        raise


async def until_decided(state_dir: Path, stop: asyncio.Event, say: Callable[[str], None]) -> Identity | None:
    """Ask again and again until this machine is approved: patiently, and never in step with others.

    Args:
        state_dir: where `enroll` left what it asks with.
        stop: set to leave it for later.
        say: shows a line to whoever looks on.

    Returns:
        Who it is now; None if it was stopped before.

    Raises:
        EnrollmentRefusedError: it is refused, or its time is up: it asks no more.
        NotEnrolledError: there is nothing to wait for.
        AlreadyRunningError: somebody else waits on this state directory.
    """
    lock = PLATFORM.lock(state_dir / LOCK_FILE)
    if lock is None:
        raise AlreadyRunningError(f"Another process waits, or an agent runs, on {state_dir}.")
    try:
        return await _until_decided(state_dir, stop, say)
    finally:
        os.close(lock)


async def _until_decided(state_dir: Path, stop: asyncio.Event, say: Callable[[str], None]) -> Identity | None:
    failures, told = 0, ""
    while not stop.is_set():
        # Anew each time: meanwhile `enroll` may have come with another token.
        pending = Pending.load(state_dir)
        if pending is None:
            return Identity.load(state_dir)
        context = authorities.trusting(pending.server_ca) if pending.server_url.startswith("https:") else None
        asking = in_thread(partial(_ask_once, pending, state_dir, context))
        stopping = asyncio.create_task(stop.wait())
        both: set[asyncio.Future[Any]] = {asking, stopping}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not asking.done():
            return None
        try:
            return asking.result()
        except EnrollmentWaitingError as error:
            failures, words, again_s = 0, str(error), error.again_s
        except EnrollmentLaterError as error:
            failures, words, again_s = failures + 1, str(error), error.again_s
        except EnrollmentRefusedError as error:
            if Pending.load(state_dir) is None:
                raise
            failures, words, again_s = 0, str(error), None
        if words != told:
            say(words)
            told = words
        pause_s = max(again_s or 0.0, min(_FIRST_PAUSE_S * 2.0 ** min(failures, 10), _LONGEST_PAUSE_S))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s * random.uniform(1.0, 1.5)):  # noqa: S311 - spreads load
                await stop.wait()
    return None


def _ask_once(pending: Pending, state_dir: Path, context: ssl.SSLContext | None) -> Identity:
    """Ask, and keep the identity that comes of it. What is refused for good is forgotten."""
    key = AgentKey.load_or_create(state_dir)
    request = wire.EnrollRequest(
        token=pending.token,
        public_key=key.public_hex,
        proof=key.sign(wire.ENROLL_CONTEXT + pending.token.encode()).hex(),
        hostname=pending.name,
        platform=PLATFORM.name,
        arch=arch(),
        agent_version=VERSION,
    )
    try:
        reply = _ask(pending.server_url + "/api/v1/enroll", request, context)
        for pem in filter(None, (reply.server_ca, reply.nats_ca)):
            try:
                authorities.trusting(pem)
            except authorities.AuthorityError as error:
                raise EnrollmentRefusedError(f"The server names an authority that makes no sense: {error}") from error
    except EnrollmentLaterError:
        raise
    except EnrollmentRefusedError:
        if Pending.load(state_dir) == pending:
            (state_dir / PENDING_FILE).unlink()
        raise
    identity = Identity(
        agent_id=reply.agent_id,
        server_url=pending.server_url,
        server_public_key=reply.server_public_key,
        nats_urls=reply.nats_urls,
        nats_ca=reply.nats_ca,
        server_ca=reply.server_ca or pending.server_ca,
        hello_interval_s=reply.hello_interval_s,
    )
    identity.save(state_dir)
    (state_dir / PENDING_FILE).unlink(missing_ok=True)
    return identity


def _trusted(url: str, ca: str | None, fingerprint: str | None) -> tuple[str | None, ssl.SSLContext | None]:
    """Whom the first request trusts: an authority where one is named, and its context; no context for plain text.

    Raises:
        EnrollmentRefusedError: the server shows another authority, or the token would go out in the clear although an
            authority was named.
    """
    if urlsplit(url).scheme != "https":
        if ca is not None or fingerprint is not None:
            raise EnrollmentRefusedError(f"{url} is plain text, and no authority can vouch for it: write https://.")
        return None, None
    try:
        if fingerprint is not None:
            ca = authorities.pinned(url, fingerprint, _TIMEOUT_S)
        return ca, authorities.trusting(ca)
    except authorities.AuthorityError as error:
        raise EnrollmentRefusedError(str(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnrollmentRefusedError(
            f"{url} cannot be asked for its authority: {_cause(error)}. Check the address, and that its port is open."
        ) from error


def _ask(url: str, request: wire.EnrollRequest, context: ssl.SSLContext | None) -> wire.EnrollReply:
    post = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url, data=msgspec.json.encode(request), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=_TIMEOUT_S, context=context) as response:  # noqa: S310 - the scheme was checked
            return msgspec.json.decode(response.read(), type=wire.EnrollReply)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, request.public_key) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnrollmentLaterError(
            f"{url} cannot be reached: {_cause(error)}. Check the address, and that its port is open from here."
        ) from error
    except msgspec.MsgspecError as error:
        raise EnrollmentLaterError(f"{url} did not answer as a Fleetlog server does: {error}") from error


def _cause(error: Exception) -> str:
    """What the system said, without the wrapping of urllib."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(cause, "strerror", None) or cause)


class _Problem(msgspec.Struct):
    """The server's own words (problem+json)."""

    code: str = ""
    title: str = ""
    detail: str = ""
    enrollment_id: str = ""
    expires_at: datetime | None = None


def _refusal(error: urllib.error.HTTPError, public_key: str) -> EnrollmentRefusedError | EnrollmentWaitingError:
    """What a refusal means here."""
    try:
        problem = msgspec.json.decode(error.read(), type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem()
    after = (error.headers.get("Retry-After") or "").strip()
    again_s = min(float(after), _LONGEST_PAUSE_S) if after.isascii() and after.isdecimal() else None
    if problem.code == _WAITING:
        until = f" It waits until {problem.expires_at:%Y-%m-%d %H:%M} UTC." if problem.expires_at is not None else ""
        return EnrollmentWaitingError(
            f"This machine waits until somebody approves it: `fleetlog agents approve {problem.enrollment_id}`, or in "
            f"the dashboard. Its key is {key_fingerprint(public_key)}: compare it.{until}",
            again_s,
        )
    words = problem.detail or problem.title or f"The server answered {error.code} {error.reason}."
    words = f"{words} ({problem.code})" if problem.code else words
    # A page of a proxy's is no word of the server's.
    final = problem.code and error.code not in _LATER
    return EnrollmentRefusedError(words) if final else EnrollmentLaterError(words, again_s)
