"""Enrollment: one HTTPS request with a token, after which this machine is an agent."""

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from agent import VERSION
from agent.errors import AlreadyEnrolledError, EnrollmentRefusedError, NotEnrolledError
from agent.facts import arch
from agent.identity import AgentKey, Identity
from agent.platforms import PLATFORM
from schema import authorities, wire

_TIMEOUT_S = 30


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
    key = AgentKey.load_or_create(state_dir)
    request = wire.EnrollRequest(
        token=token,
        public_key=key.public_hex,
        proof=key.sign(wire.ENROLL_CONTEXT + token.encode()).hex(),
        hostname=name or socket.gethostname(),
        platform=PLATFORM.name,
        arch=arch(),
        agent_version=VERSION,
    )
    reply = _ask(url.rstrip("/") + "/api/v1/enroll", request, context)
    for pem in filter(None, (reply.server_ca, reply.nats_ca)):
        try:
            authorities.trusting(pem)
        except authorities.AuthorityError as error:
            raise EnrollmentRefusedError(f"The server names an authority that makes no sense: {error}") from error
    identity = Identity(
        agent_id=reply.agent_id,
        server_url=url.rstrip("/"),
        server_public_key=reply.server_public_key,
        nats_urls=reply.nats_urls,
        nats_ca=reply.nats_ca,
        server_ca=reply.server_ca or ca,
        hello_interval_s=reply.hello_interval_s,
    )
    identity.save(state_dir)
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
            raise EnrollmentRefusedError(_problem(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnrollmentRefusedError(
            f"{url} cannot be reached: {_cause(error)}. Check the address, and that its port is open from here."
        ) from error
    except msgspec.MsgspecError as error:
        raise EnrollmentRefusedError(f"{url} did not answer as a Fleetlog server does: {error}") from error


def _cause(error: Exception) -> str:
    """What the system said, without the wrapping of urllib."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(cause, "strerror", None) or cause)


def _problem(error: urllib.error.HTTPError) -> str:
    """The server's own words (problem+json), or what there is."""
    try:
        problem = json.loads(error.read())
        words = problem.get("detail") or problem["title"]
        return f"{words} ({problem['code']})" if "code" in problem else str(words)
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"The server answered {error.code} {error.reason}."
