"""Who asks: the API key of a request, and patience with wrong ones."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import Scope

from command_bus.errors import UnauthenticatedError
from gateways.rest.errors import TooManyFailuresError
from gateways.rest.parts import ApiParts, Identity
from gateways.rest.rates import FailureLimit

MAX_KNOWN_KEYS = 1_000


class Gate:
    """Checks the API key of each request.

    An address that sent too many wrong keys is refused before its key is looked at, so that guessing costs us nothing.
    Keys that were right a moment ago pass all the same: one broken script behind an office's address must not lock out
    everybody else there.
    """

    def __init__(self, parts: ApiParts, seconds: Callable[[], float]) -> None:
        self._parts = parts
        self._limit = parts.failures or FailureLimit(parts.failed_auth_burst, parts.failed_auth_every_s, seconds)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    async def identify(self, scope: Scope, headers: Headers) -> Identity:
        """Whom the request speaks for.

        Raises:
            UnauthenticatedError: no key, or a wrong one.
            TooManyFailuresError: too many wrong ones from that address.
        """
        scheme, _, text = headers.get("authorization", "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise UnauthenticatedError
        address = scope["client"][0] if scope.get("client") else "unknown"
        digest = hashlib.sha256(text.encode()).digest()
        wait_s = self._limit.wait_s(address)
        if wait_s > 0 and digest not in self._known:
            raise TooManyFailuresError(headers={"Retry-After": str(int(wait_s) + 1)})
        try:
            identity = await self._parts.authenticator.authenticate(text, self._parts.clock())
        except UnauthenticatedError:
            self._known.pop(digest, None)
            self._limit.failed(address)
            raise
        self._remember(digest)
        return identity

    def _remember(self, digest: bytes) -> None:
        self._known[digest] = None
        self._known.move_to_end(digest)
        while len(self._known) > MAX_KNOWN_KEYS:
            self._known.popitem(last=False)
