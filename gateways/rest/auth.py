"""Who asks: the API key or the session of a request, and patience with wrong ones."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

import structlog
from starlette.datastructures import Headers
from starlette.types import Scope

from command_bus.credentials import KEY_PREFIX, SESSION_PREFIX, parse
from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLogError
from command_bus.refusals import RefusalRecords
from domain.event import Metadata
from domain.login_attempts import LoginAttempt, WrongKeysHeldBack
from domain.refusals import Door
from gateways.rest.cookies import must_be_ours, session_token
from gateways.rest.errors import TooManyFailuresError
from gateways.rest.guesses import KEY_HOLDS, KEYS_PREFIX, Guesses, place_of
from gateways.rest.observe import correlation_id
from gateways.rest.parts import ApiParts, Identity
from gateways.rest.rates import FailureLimit
from gateways.rest.refusals import note_wrong_key

MAX_KNOWN_KEYS = 1_000
NOTED_S = 900.0
_log = structlog.get_logger("fleetlog.auth")


def _key_id(text: str) -> str | None:
    """Whose key it says to be; None of what is no key, and of a session's token, which nobody has for long."""
    parsed = parse(KEY_PREFIX, text)
    return None if parsed is None else str(parsed[0])


def address_of(scope: Scope) -> str:
    """Where a request came from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class Gate:
    """Checks the API key, or the session, of each request.

    An address that sent too many wrong keys is refused before its key is looked at, so that guessing costs us nothing.
    Keys that were right a moment ago pass all the same: one broken script behind an office's address must not lock out
    everybody else there. The same holds of the wrong ones for one key: whoever knows its id does not shut its owner out
    of where they have used it before.
    """

    def __init__(self, parts: ApiParts, seconds: Callable[[], float], refusals: RefusalRecords) -> None:
        self._parts = parts
        self._refusals = refusals
        self._limit = parts.failures or FailureLimit(parts.failed_auth_burst, parts.failed_auth_every_s, seconds)
        self._guesses = parts.key_guesses or Guesses(seconds, prefix=KEYS_PREFIX, holds=KEY_HOLDS)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._noted: OrderedDict[str, float] = OrderedDict()
        """Addresses that the log was told of, and until when it is not told again."""
        self._seconds = seconds

    async def identify(self, scope: Scope, headers: Headers, *, using: bool = True) -> Identity:
        """Whom the request speaks for. A key or session in its own header counts before a cookie.

        Args:
            scope: of the request.
            headers: of the request.
            using: whether it keeps a session from being idle.

        Raises:
            UnauthenticatedError: no key and no session, or a wrong one.
            TooManyFailuresError: too many wrong ones from that address, or for that key.
            CrossSiteError, NoCsrfTokenError: a change by cookie that no page of ours has made.
        """
        text = self._text(scope, headers)
        address = address_of(scope)
        digest = hashlib.sha256(text.encode()).digest()
        new, key_id = digest not in self._known, _key_id(text)
        if new:
            await self._must_not_wait(key_id, address, scope)
        try:
            identity = await self._parts.authenticator.authenticate(text, self._parts.clock(), using=using)
        except UnauthenticatedError as error:
            # A session that is over was no guess: a page that is left open goes on asking for a while.
            if not (text.startswith(f"{SESSION_PREFIX}_") and digest in self._known):
                self._known.pop(digest, None)
                self._limit.failed(place_of(address))
                if key_id is not None:
                    await self._guesses.attempt(key_id, address)
                await self._note(address, scope, self._limit.wait_s(place_of(address)))
                key = UUID(key_id) if key_id is not None else None
                await note_wrong_key(self._refusals, self._parts.log, scope, text, key, address, error)
            raise
        if new and key_id is not None:
            await self._guesses.succeeded(key_id, address)
        self._remember(digest)
        return identity

    async def _must_not_wait(self, key_id: str | None, address: str, scope: Scope) -> None:
        wait_s = self._limit.wait_s(place_of(address))
        if wait_s <= 0 and key_id is not None and (wait := await self._guesses.wait(key_id, address)) is not None:
            wait_s = wait.seconds
            await self._note(address, scope, wait_s)
        if wait_s > 0:
            self._refusals.count(Door.KEY, TooManyFailuresError.code)
            raise TooManyFailuresError(headers={"Retry-After": str(int(wait_s) + 1)})

    def _text(self, scope: Scope, headers: Headers) -> str:
        scheme, _, text = headers.get("authorization", "").partition(" ")
        text = text.strip()
        if scheme.lower() == "bearer" and text:
            return text
        token = session_token(scope, headers) if not scheme else None
        if token is None:
            raise UnauthenticatedError
        must_be_ours(scope, headers, token, self._parts.people.public_url)
        return token

    async def _note(self, address: str, scope: Scope, wait_s: float) -> None:
        """Have the log say that an address is held back: once in a while, however long it goes on."""
        if wait_s <= 0 or self._seconds() < self._noted.get(address, 0.0):
            return
        self._noted[address] = self._seconds() + NOTED_S
        self._noted.move_to_end(address)
        while len(self._noted) > MAX_KNOWN_KEYS:
            self._noted.popitem(last=False)
        change = LoginAttempt(self._parts.new_id()).hold_back(WrongKeysHeldBack(address=address))
        try:
            await self._parts.log.append([change], Metadata(actor="anonymous", correlation_id=correlation_id(scope)))
        except EventLogError as error:  # the refusal stands; the next one tries again
            self._noted.pop(address, None)
            _log.warning("held_back_not_recorded", address=address, error=str(error))

    def _remember(self, digest: bytes) -> None:
        self._known[digest] = None
        self._known.move_to_end(digest)
        while len(self._known) > MAX_KNOWN_KEYS:
            self._known.popitem(last=False)
