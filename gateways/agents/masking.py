"""Masks what agents report, once more: an agent masks before it writes anything, and that is not taken on trust.

Which secrets a command was handed is on record (`SecretsRead`), and so is under which ids their values are kept. A
value that was replaced or removed since is kept until the commands that were handed it have ended.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

import psycopg
import structlog
from msgspec import structs

from command_bus.event_log import EventLog, EventLogError
from command_bus.keystore import Keystore
from command_bus.master_keys import KeyServiceAwayError
from domain.commands import CommandQueued, RunScript, RunShell
from domain.event import Recorded
from domain.secrets import SecretsRead, reads_stream
from schema import wire
from schema.masking import Hidden, Mask, mask_all

_log = structlog.get_logger()
STREAMS = ("stdout", "stderr")


def _no(_: UUID) -> bool:
    return False


class Masks:
    """Knows what is not to be seen of which command.

    Args:
        log: says which secrets were read for it.
        keystore: holds their values.
        names_none: whether a command is known to name no secret; of such the log is not asked.
    """

    def __init__(self, log: EventLog, keystore: Keystore, names_none: Callable[[UUID], bool] = _no) -> None:
        self._log = log
        self._keystore = keystore
        self._names_none = names_none

    async def of(self, command_ids: Iterable[UUID]) -> dict[UUID, Hidden | KeyServiceAwayError]:
        """The secrets that these commands were handed, or why nobody can tell now; most commands had none."""
        streams = {reads_stream(one): one for one in command_ids if not self._names_none(one)}
        recorded = await self._log.read_streams(list(streams), tolerant=True)
        ids = {streams[stream_id]: values_read(events) for stream_id, events in recorded.items()}
        if not ids:
            return {}
        try:
            opened = await self._keystore.open(list(set().union(*ids.values())))
        except KeyServiceAwayError as error:
            return dict.fromkeys(ids, error)
        texts = {value_id: value.decode() for value_id, value in opened.items() if isinstance(value, bytes)}
        # Commands that were handed the same share what searches for it.
        shared: dict[frozenset[str], Hidden] = {}
        found: dict[UUID, Hidden | KeyServiceAwayError] = {}
        for command_id, value_ids in ids.items():
            known = frozenset(texts[value_id] for value_id in value_ids if value_id in texts)
            found[command_id] = shared.setdefault(known, Hidden(known))
        return found

    def live(self, story: Sequence[Recorded]) -> "LiveMask | None":
        """What masks the live output of one command for one reader; None where the command names no secret.

        Args:
            story: the command's own, from its beginning.
        """
        queued = story[0].event
        if isinstance(queued, CommandQueued):
            data = queued.spec.data if isinstance(queued.spec, RunScript | RunShell) else None
            if data is None or not data.secrets:
                return None
        return LiveMask(story[0].originator_id, self, self._log)


class LiveMask:
    """Masks one command's live output for one reader.

    An agent has a secret only after it is on record that it was read. So the record is looked at as a piece arrives,
    by one look at the log's index, and read where there is more of it than the last time.

    Args:
        command_id: whose output.
        masks: knows what it was handed.
        log: knows whether that was more since.
    """

    def __init__(self, command_id: UUID, masks: Masks, log: EventLog) -> None:
        self._command_id = command_id
        self._masks = masks
        self._log = log
        self._known = 0
        self._pieces = MaskedPieces(Hidden(()))

    async def shown(self, piece: wire.OutputLive) -> wire.OutputLive | None:
        """What is to be seen of a piece; None if that is nothing, or nobody can tell now."""
        reads = reads_stream(self._command_id)
        try:
            head = (await self._log.read_heads([reads], tolerant=True)).get(reads)
            if head is not None and head.originator_version != self._known:
                hidden = (await self._masks.of([self._command_id]))[self._command_id]
                if isinstance(hidden, KeyServiceAwayError):
                    raise hidden
                self._pieces.hide(hidden)
                self._known = head.originator_version
        except (EventLogError, KeyServiceAwayError, psycopg.OperationalError) as error:
            _log.warning("live_output_withheld", command_id=str(self._command_id), error=str(error).strip())
            return None
        return self._pieces.shown(piece)


class MaskedPieces:
    """Pieces of live output as they may be shown.

    A piece may be lost, come again, or overlap the one before. Its place is counted in what is shown, as it is in the
    output that comes with the result and is masked in the same way.

    Args:
        hidden: what is not to be seen.
    """

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden
        self._attempt = 0
        self._streams: dict[str, _Stream] = {}

    def hide(self, hidden: Hidden) -> None:
        """It is this from now on: no less than before."""
        self._hidden = hidden
        for stream in self._streams.values():
            stream.mask.hidden = hidden

    def shown(self, piece: wire.OutputLive) -> wire.OutputLive | None:
        """What may be let go now that this piece has come; None if nothing."""
        if piece.attempt < self._attempt or piece.stream not in STREAMS:
            return None
        if piece.attempt > self._attempt:
            self._attempt, self._streams = piece.attempt, {}
        stream = self._streams.setdefault(piece.stream, _Stream(self._hidden))
        place, data = stream.take(piece.offset, piece.data)
        return structs.replace(piece, offset=place, data=data) if data else None


class _Stream:
    """One stream of one attempt."""

    def __init__(self, hidden: Hidden) -> None:
        self.mask = Mask(hidden)
        self._upto = 0
        """So far the agent has told of it."""
        self._shown = 0
        """So far it is shown."""

    def take(self, offset: int, data: bytes) -> tuple[int, bytes]:
        """What can be shown now, and where that stands."""
        if offset > self._upto:
            self._shown += self.mask.skip() + offset - self._upto
        else:
            data = data[self._upto - offset :]
            offset = self._upto
        self._upto = offset + len(data)
        place, out = self._shown, self.mask.feed(data)
        self._shown += len(out)
        return place, out


def values_read(events: Iterable[Recorded]) -> set[UUID]:
    """The values that are on record as read, by their ids."""
    return {read.value_id for one in events if isinstance(one.event, SecretsRead) for read in one.event.secrets}


def masked(report: wire.ResultReport, hidden: Hidden) -> wire.ResultReport:
    """A result without these secrets: in its outputs as far as they came along, in their ends, in its words.

    Args:
        report: one whose inline outputs are what they claim to be.
        hidden: what is not to be seen.
    """
    return structs.replace(
        report,
        stdout=_masked(report.stdout, hidden),
        stderr=_masked(report.stderr, hidden),
        detail=mask_all(hidden, report.detail.encode()).decode(errors="replace"),
        patched=None,  # what has secrets is no installing of updates
    )


def _masked(stream: wire.StreamReport, hidden: Hidden) -> wire.StreamReport:
    if stream.inline is None:
        # It may begin in the midst of a secret.
        mask = Mask(hidden)
        mask.skip()
        return structs.replace(stream, tail=mask.feed(stream.tail) + mask.finish())
    raw = zlib.decompress(stream.inline)
    shown = mask_all(hidden, raw)
    if shown == raw:
        return structs.replace(stream, tail=shown[-wire.TAIL_BYTES :])
    return wire.StreamReport(
        size=len(shown),
        sha256=hashlib.sha256(shown).hexdigest(),
        tail=shown[-wire.TAIL_BYTES :],
        inline=zlib.compress(shown, 1),
    )
