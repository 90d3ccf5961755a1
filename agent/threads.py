"""Blocking calls beside the event loop, each in a daemon thread of its own.

Not the loop's executor: its threads are joined when the program ends, and one that waits for a pipe or a long poll
would hold that up for as long as it waits. There are few at once: three per running script, and the lanes bound those.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")


def in_thread(call: Callable[[], _T]) -> "asyncio.Future[_T]":
    """Start ``call`` in a thread now; the future has its result or its exception."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where the call returned None

    def body() -> None:
        result: _T | None = None
        error: BaseException | None = None
        try:
            result = call()
        except BaseException as raised:  # noqa: BLE001 - handed to whoever awaits the future
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=body, daemon=True, name=getattr(call, "__name__", "call")).start()
    return future


class OneThread:
    """A thread that makes blocking calls one after the other: the journal belongs to it, and syncs in it."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        loop = asyncio.get_running_loop()
        # Shielded: a call that is cancelled half-way still happens, so its caller must not act as if it had not.
        return await asyncio.shield(loop.run_in_executor(self._pool, functools.partial(function, *args, **kwargs)))

    def close(self) -> None:
        """Wait for the calls that were made."""
        self._pool.shutdown()
