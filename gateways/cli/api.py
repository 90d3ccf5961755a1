"""A small client of the REST API: what every command of the command line talks through.

It sees its own writes (a read waits for the position of the write before it), repeats a write whose answer was lost
under the same Idempotency-Key, and turns problem documents into errors of the command line.
"""

import random
import ssl
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2

from command_bus.credentials import SESSION_PREFIX
from gateways.cli.errors import BadValueError, RefusedError, UnreachableError, UntrustedError
from gateways.cli.profile import Profile
from schema.authorities import PATH as AUTHORITIES
from schema.authorities import AuthorityError, certificates, fingerprint, trusting

PREFIX = "/api/v1"
PAGE = 500
TRIES = 3
BUSY = (429, 503)
PROOF_NEEDED = "fresh_proof_needed"
NOT_AGAIN = ("too_many_failures", "outcome_unknown", "locked_out")
"""A wrong key stays wrong, a code grows old, and what may have been recorded must not be told as refused, should the
next try be."""
LONGEST_PATIENCE_S = 10
"""An answer that asks for more is shown instead: somebody sits and waits."""
LONGEST_WAIT_S = 60
"""How long the server may hold an answer back (``wait_s``)."""
TIMEOUT = httpx2.Timeout(LONGEST_WAIT_S + 15, connect=5.0)
QUIET_S = 60.0
"""A live stream that says nothing, not even a heartbeat, for this long is taken for dead."""


class Api:
    """Calls one Fleetlog.

    Args:
        profile: where it is, and the key.
        client: what carries the requests, for tests; by default a client of its own.
        at: as of when it reads, as the header `Fleetlog-At` takes it; None reads what is now.
    """

    def __init__(self, profile: Profile, client: httpx2.Client | None = None, *, at: str | None = None) -> None:
        self.url = profile.url
        self._at = {} if at is None else {"Fleetlog-At": at}
        self._position = 0
        # A proxy from the environment has no way to this machine's own loopback.
        where = urlsplit(profile.url)
        loopback = where.hostname in {"localhost", "127.0.0.1", "::1"}
        self._client = client or httpx2.Client(
            base_url=profile.url,
            timeout=TIMEOUT,
            trust_env=not loopback,
            # Or certificates are read, at length, that verify nothing.
            verify=_trusting(profile.ca) if where.scheme == "https" else False,
        )
        self.key = profile.key
        self.prove: Callable[[], dict[str, str] | None] = lambda: None
        """Asks whoever sits there for a password or code, where the server asks for one; None if nobody does."""
        if profile.key:
            self._client.headers["Authorization"] = f"Bearer {profile.key}"
        self._client.headers["User-Agent"] = "fleetlog-cli"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def fingerprint(self) -> str | None:
        """Of the authority that the server's certificate is under now; None where it has none of its own."""
        if not self.url.startswith("https://"):
            return None
        try:
            answer = self._send("GET", AUTHORITIES.removeprefix(PREFIX))
        except RefusedError as refused:
            if refused.refused_as == "no_authority":
                return None
            raise
        return fingerprint(certificates(answer.text)[0])

    def get(self, path: str, **query: Any) -> Any:
        """One resource, or one page."""
        return _json(self._send("GET", path, query=query))

    def items(
        self, path: str, *, at_most: int | None = None, cursor: str | None = None, **query: Any
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page as they are asked for; from a cursor on, where one is given."""
        left = at_most
        while left is None or left > 0:
            page = self.get(path, **query, cursor=cursor, limit=PAGE if left is None else min(PAGE, left))
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._write("POST", path, body)

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._write("PUT", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._write("PATCH", path, body)

    def content(self, path: str, **query: Any) -> Iterator[bytes]:
        """The raw bytes of an answer, in pieces as they arrive."""
        with (
            _translated(self.url),
            self._client.stream("GET", PREFIX + path, params=_given(query), headers=self._waiting()) as response,
        ):
            _refuse(response)
            yield from response.iter_bytes()

    def stream(self, path: str, *, last_event_id: str | None = None, **query: Any) -> Iterator[httpx2.ServerSentEvent]:
        """Server-sent events until the server ends them.

        Raises:
            UnreachableError: the connection broke; resume with the id of the last event.
        """
        headers = ({"Last-Event-ID": last_event_id} if last_event_id else {}) | self._waiting()
        timeout = httpx2.Timeout(QUIET_S, connect=5.0)
        with (
            _translated(self.url),
            self._client.sse(PREFIX + path, params=_given(query), headers=headers, timeout=timeout) as source,
        ):
            _refuse(source.response)
            yield from source

    def _write(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Idempotency-Key": str(uuid4())}
        try:
            response = self._send(method, path, body=body or {}, headers=headers)
        except RefusedError as error:
            # Nothing was done. It is asked for once: a wrong answer ends the command with its own error.
            by_session = self.key.startswith(f"{SESSION_PREFIX}_")
            proof = self.prove() if error.refused_as == PROOF_NEEDED and by_session else None
            if proof is None:
                raise
            self._send("POST", "/session/proof", body=proof)
            response = self._send(method, path, body=body or {}, headers=headers)
        self._position = max(self._position, int(response.headers.get("Fleetlog-Position", "0")))
        answer: dict[str, Any] = _json(response) if response.content else {}
        return answer

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        headers = (headers or {}) | (self._waiting() if method == "GET" else {})
        with _translated(self.url):
            for tries_left in reversed(range(TRIES)):
                try:
                    response = self._client.request(
                        method, PREFIX + path, params=_given(query or {}), json=body, headers=headers
                    )
                except (httpx2.ReadError, httpx2.RemoteProtocolError):
                    # The answer was lost. Asking again is safe: a read changes nothing, and a write has its key.
                    if not tries_left:
                        raise
                else:
                    asked_s = _asked_to_wait_s(response)
                    if asked_s is None or not tries_left:
                        break
                    # Nothing was done, and asking again is as safe as above.
                    time.sleep(asked_s * random.uniform(1.0, 1.5))  # noqa: S311 - spreads load, hides nothing
        _refuse(response)
        return response

    def _waiting(self) -> dict[str, str]:
        return self._at | ({"Fleetlog-Wait-Position": str(self._position)} if self._position else {})


def _trusting(ca: str | None) -> ssl.SSLContext:
    try:
        return trusting(ca)
    except AuthorityError as error:
        raise BadValueError(f"The authority kept for this address cannot be used: {error}") from error


class _translated:  # noqa: N801 - reads as the verb that it is: `with _translated(url)`
    """Turns what the transport raises into errors of the command line."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        match error:
            case httpx2.ConnectError() if _is_about_certificates(error):
                raise UntrustedError(
                    f"{self._url} does not show a certificate that is trusted: {error}. If it has an authority of its "
                    "own: `fleetlog login URL --fingerprint SHA256`, as `fleetlog up` prints it, or `--ca FILE`."
                ) from error
            case httpx2.ConnectError() | httpx2.ConnectTimeout():
                raise UnreachableError(
                    f"Nothing answers at {self._url}; start it with `fleetlog up`, "
                    "or point elsewhere with `fleetlog login URL`."
                ) from error
            case httpx2.HTTPError() | httpx2.InvalidURL():
                raise UnreachableError(
                    f"The connection to {self._url} failed: {error or type(error).__name__}."
                ) from error


def _is_about_certificates(error: BaseException | None) -> bool:
    """Whether an error came from judging a certificate, however deep the transport has wrapped it."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _given(query: dict[str, Any]) -> dict[str, Any]:
    """Only what was asked for; ``true``/``false`` as the API spells them."""
    return {name: value for name, value in query.items() if value is not None and value != []}


def _asked_to_wait_s(response: httpx2.Response) -> float | None:
    """How long the server asks to wait before this is repeated; None where repeating it so soon is of no use."""
    text = response.headers.get("Retry-After", "").strip()
    if response.status_code not in BUSY or not (text.isascii() and text.isdecimal()) or int(text) > LONGEST_PATIENCE_S:
        return None
    return None if any(code in response.text for code in NOT_AGAIN) else float(text)


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError as fault:
        raise RefusedError(
            response.status_code, "not_fleetlog", f"{response.url} answered, but not as a Fleetlog does."
        ) from fault


def _refuse(response: httpx2.Response) -> None:
    """Raise RefusedError for an answer that is an error, whatever sent it."""
    if response.is_success:
        return
    response.read()
    secret = None
    try:
        problem = response.json()
        secret = problem.get("secret")
        code, detail = str(problem["code"]), str(problem.get("detail") or problem.get("title") or "")
        # Where fields are named, they say it all: the sentence above them speaks of a document nobody here reads.
        if fields := problem.get("errors"):
            detail = "; ".join(f"{field.get('pointer') or 'body'}: {field['detail']}" for field in fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not one of our problem documents: a proxy, or another server altogether.
        code, detail = f"http_{response.status_code}", f"{response.url} answered {response.status_code}."
    refused = RefusedError(response.status_code, code, detail)
    refused.secret = secret
    raise refused
