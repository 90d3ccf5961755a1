"""No search for cycles while a page of events is in hand.

Loading a page makes hundreds of thousands of objects that all live until it is written, and that hold no cycles: the
collector would walk through them again and again, which took as long as loading them, and find nothing. What is not
in a cycle is freed as ever.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_pauses = 0
_was_on = False


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause the collector of this process; where several overlap, it goes on after the last."""
    global _pauses, _was_on  # noqa: PLW0603 - the collector is the process's too
    with _lock:
        if _pauses == 0:
            _was_on = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if _pauses == 0 and _was_on:
                gc.enable()
