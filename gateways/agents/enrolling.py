"""Enrollment over HTTP: a machine comes with a token and a key of its own, and is an agent then, or has to wait.

One that waits asks again with the very same request. Nothing else is open to it: there is no such agent at NATS, at the
check-in, or anywhere, until it is approved.
"""

import random
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from command_bus.handlers.enrollment import Enrollment
from domain.errors import DomainError, EnrollmentsFullError, EnrollmentsTooFastError, EnrollmentWaitingError
from gateways.agents import metrics
from gateways.agents.keys import KeysInUse
from gateways.agents.proofs import BadProofError, verify
from gateways.agents.refusals import AgentRefusals
from gateways.agents.trust import Told
from gateways.agents.uplink import HELLO_INTERVAL_S, MalformedError
from gateways.rest.admission import BodyBudget, retry_after
from gateways.rest.bodies import receive_body
from gateways.rest.errors import TooManyRequestsError
from gateways.rest.guesses import place_of
from gateways.rest.observe import correlation_id
from gateways.rest.problems import problem_response
from gateways.rest.rates import FailureLimit, Rates
from schema import wire
from schema.fingerprints import key_fingerprint

_log = structlog.get_logger()
MAX_ENROLL_BYTES = 16 * 1024
BODY_S = 30.0
ASK_AGAIN_S = (15, 30)
"""A machine that waits is told to ask again after so many seconds, so that they do not all come at once."""
_decode = msgspec.json.Decoder(wire.EnrollRequest).decode
_NO_FAULT = (EnrollmentsFullError, EnrollmentsTooFastError, TooManyRequestsError)
"""Of others, or of nobody: an address is not held back for it."""


class Enrolling:
    """Answers ``POST /enroll`` in one API process.

    Args:
        enrollment: decides and records.
        nats_urls: where agents reach NATS.
        told: whom agents are to trust.
        failures: of addresses.
        bodies: of all requests that are being received.
        pace: holds each machine to so many questions; None to as many as it likes.
        refusals: puts them on record.
    """

    def __init__(
        self,
        enrollment: Enrollment,
        nats_urls: Sequence[str],
        told: Told,
        failures: FailureLimit,
        bodies: BodyBudget,
        pace: Rates | None,
        refusals: AgentRefusals,
    ) -> None:
        self._enrollment = enrollment
        self._nats_urls = list(nats_urls)
        self._told = told
        self._failures = failures
        self._bodies = bodies
        self._pace = pace
        self._refusals = refusals

    async def answer(self, request: Request, keys: KeysInUse, address: str) -> Response:
        """A token for an identity; raises what was wrong with it."""
        try:
            answer = await self._answer(request, keys, address)
        except EnrollmentWaitingError as error:
            metrics.ENROLLED.labels(error.code).inc()
            return problem_response(request, error, **error.extra)
        except DomainError as error:
            metrics.ENROLLED.labels(error.code).inc()
            raise
        metrics.ENROLLED.labels("ok").inc()
        return answer

    async def _answer(self, request: Request, keys: KeysInUse, address: str) -> Response:
        try:
            with ExitStack() as held:
                asked = _decode(await receive_body(request, MAX_ENROLL_BYTES, self._bodies, BODY_S, held))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MalformedError(f"Not an enrollment request: {error}") from error
        try:
            _check_proof(asked)
            keep_pace(self._pace, asked.public_key.lower())
            came = await self._enrollment.enroll(asked, address)
        except EnrollmentWaitingError as waits:
            raise _told(waits, asked.public_key, address) from None
        except DomainError as error:
            if not isinstance(error, _NO_FAULT):
                self._failures.failed(place_of(address))
            elif "retry_after_s" in error.extra:
                error.extra["retry_after_s"] = retry_after(error.extra["retry_after_s"])["Retry-After"]
            _log.warning("enrollment_refused", code=error.code, address=address)
            await self._refusals.enrollment(error, asked.token, address, correlation_id(request.scope))
            raise
        _log.info("enrolled", agent_id=str(came.agent_id), site_id=str(came.site_id), address=address)
        self._told.look()
        reply = wire.EnrollReply(
            agent_id=came.agent_id,
            server_public_key=keys.delivery.public_hex,
            nats_urls=self._nats_urls,
            nats_ca=self._told.nats_ca,
            server_ca=self._told.server_ca,
            hello_interval_s=HELLO_INTERVAL_S,
        )
        return Response(msgspec.json.encode(reply), 201, media_type="application/json")


def keep_pace(pace: Rates | None, who: str) -> None:
    """Count one request of a machine.

    Raises:
        TooManyRequestsError: it comes too often.
    """
    wait_s = pace.spend(who) if pace is not None else 0.0
    if wait_s > 0:
        raise TooManyRequestsError("This machine comes too often.", headers=retry_after(wait_s))


def _told(waits: EnrollmentWaitingError, public_key: str, address: str) -> EnrollmentWaitingError:
    """What a machine is told that has to wait.

    A problem and no success, so that an agent from before there was waiting shows these words, and gets further by
    being run again.
    """
    enrollment_id, key = waits.extra["enrollment_id"], key_fingerprint(public_key)
    if not waits.extra["known_before"]:
        _log.info("enrollment_waits", enrollment_id=enrollment_id, address=address)
    return EnrollmentWaitingError(
        f"This machine waits until somebody approves it, as {enrollment_id}; its key is {key}. Run the same again "
        "after that.",
        enrollment_id=enrollment_id,
        expires_at=waits.extra["expires_at"],
        retry_after_s=random.randint(*ASK_AGAIN_S),  # noqa: S311 - spreads load
    )


def _check_proof(asked: wire.EnrollRequest) -> None:
    """Raise BadProofError unless the machine holds the private half of the key that it brings."""
    try:
        public_key, proof = bytes.fromhex(asked.public_key), bytes.fromhex(asked.proof)
    except ValueError:
        raise BadProofError("public_key and proof are hex.") from None
    verify(public_key, proof, wire.ENROLL_CONTEXT + asked.token.encode(errors="surrogatepass"))
