"""What the journal says of attempts that are over: as it was told, or all that is known of them."""

import hashlib
import zlib
from datetime import datetime
from uuid import UUID

import msgspec

from schema.wire import ResultReport, StreamReport

_SMALL_BYTES = 2048
"""Of a whole output, compressed, that is kept as it is."""


def shortened(result: ResultReport) -> ResultReport:
    """A result as it is kept after its acknowledgement: of long outputs the ends, as if that were all."""
    stdout, stderr = _end_of(result.stdout), _end_of(result.stderr)
    cut = [name for name, kept in (("stdout", stdout), ("stderr", stderr)) if kept.size < getattr(result, name).size]
    told = f"of {' and '.join(cut)} the end alone was kept" if cut else ""
    detail = "; ".join(filter(None, (result.detail, told)))
    return msgspec.structs.replace(result, stdout=stdout, stderr=stderr, detail=detail)


def _end_of(stream: StreamReport) -> StreamReport:
    if not stream.size or (stream.inline is not None and len(stream.inline) <= _SMALL_BYTES):
        return stream
    digest = hashlib.sha256(stream.tail).hexdigest()
    return StreamReport(size=len(stream.tail), sha256=digest, tail=stream.tail, inline=zlib.compress(stream.tail))


def forgotten(command_id: UUID, attempt: int) -> ResultReport:
    """What can be said of an attempt whose result was acknowledged so long ago that it is not kept any more."""
    return ResultReport(
        command_id=command_id,
        attempt=attempt,
        outcome="interrupted",
        detail="it ended long ago and was reported then; how is not known here any more",
    )


def unheard_of(command_id: UUID, attempt: int, now: datetime) -> ResultReport:
    """Of an attempt that was on this disk once, and that this journal has never heard of."""
    return ResultReport(
        command_id=command_id,
        attempt=attempt,
        outcome="interrupted",
        finished_at=now,
        detail="the machine does not know it any more: its disk was set back, or its journal lost; it may have run",
    )


def called_off(command_id: UUID, attempt: int, now: datetime) -> ResultReport:
    """Of an attempt whose command was cancelled here, and of which the server does not know that."""
    return ResultReport(
        command_id=command_id,
        attempt=attempt,
        outcome="cancelled",
        finished_at=now,
        detail="it was cancelled before it began",
    )
