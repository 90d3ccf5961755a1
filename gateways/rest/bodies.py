"""A request's body, within bounds: its own size, the bytes of all that come at once, and a time."""

import asyncio
from contextlib import ExitStack

from starlette.requests import Request

from gateways.rest.admission import BodyBudget
from gateways.rest.errors import BodyTimeoutError, BodyTooLargeError


async def receive_body(request: Request, limit: int, budget: BodyBudget, timeout_s: float, held: ExitStack) -> bytes:
    """The body, never holding more of it than may come.

    Args:
        request: whose.
        limit: bytes.
        budget: bytes of all bodies together.
        timeout_s: how long it may take.
        held: keeps its bytes counted until it is left; that is to be when the request is done.

    Raises:
        BodyTooLargeError: it is longer.
        BodyTimeoutError: it took too long.
        OverloadedError: too much is being received already.
        ClientDisconnect: the connection closed before it was complete.
    """
    told = request.headers.get("content-length", "")
    size = int(told) if told.isascii() and told.isdecimal() else limit
    if size > limit:
        raise BodyTooLargeError(f"The body is larger than {limit} bytes.")
    parts = bytearray()
    # A body that does not say its size could be as large as may be, but only until it is here.
    with budget.promise(size):
        try:
            async with asyncio.timeout(timeout_s):
                async for part in request.stream():
                    parts += part
                    if len(parts) > limit:
                        raise BodyTooLargeError(f"The body is larger than {limit} bytes.")
        except TimeoutError:
            raise BodyTimeoutError(f"The body did not arrive within {timeout_s:g} s.") from None
        held.enter_context(budget.promise(len(parts), sure=True))
    return bytes(parts)
