"""Verifies a log against its chain, and both against what was kept outside: names the first thing that is wrong."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from schema.archive import ArchiveDamagedError, Row
from schema.audit import merkle
from schema.audit.canonical import NO_HEAD, fold, leaves_of, pack, unpack
from schema.audit.checkpoints import NO_STATEMENT, BadCheckpointError, Checkpoint, Outside, Statement
from schema.audit.comparing import Finding, Kind, first_difference


class Page(msgspec.Struct, frozen=True):
    """A run of events, as they were chained."""

    number: int
    last_position: int
    entries: bytes
    """See `canonical.pack`."""
    head: bytes
    """The chain's hash after it."""


class Start(msgspec.Struct, frozen=True):
    """Where the verification begins: after a checkpoint, or at the log's first event."""

    page: int = 0
    position: int = 0
    head: bytes = NO_HEAD
    checkpoint: int = 0
    statement_sha256: str = NO_STATEMENT
    total_events: int = 0


class Source(Protocol):
    """Where log and chain are read from: as of one moment."""

    def start(self, since: int) -> tuple[Start, Checkpoint | None]:
        """The last checkpoint that ends at or before a position."""

    def pages(self, after: int) -> Iterator[Page]:
        """The pages after one, in order."""

    def checkpoints(self, after: int) -> Sequence[Checkpoint]:
        """The checkpoints after one, in order."""

    def events(self, after: int, upto: int) -> list[Row]:
        """All events above a position, up to another."""

    def beyond(self, position: int) -> int:
        """How many events stand above a position."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified, and the first thing that is wrong with it, if anything is."""

    finding: Finding | None
    since: int
    """Position after which it began."""
    position: int
    """Of the last event that was verified."""
    events: int
    checkpoints: int
    last_checkpoint: int
    """Its number; 0 if there is none."""
    chain_head: str
    keys: list[str]
    """That signed checkpoints for Fleetlog; more than one if the key was changed."""
    countersigned: int
    """Checkpoints that somebody else has signed too."""
    outside: int
    """Checkpoints that were kept outside and agree."""
    under_no_checkpoint: int
    """Events at the end that are chained, and not signed yet."""
    unchained: int
    """Events at the end that are not chained yet."""

    @property
    def ok(self) -> bool:
        return self.finding is None


class _FoundError(Exception):
    def __init__(self, kind: Kind, position: int | None, detail: str) -> None:
        super().__init__(detail)
        self.finding = Finding(kind, position, detail)


class Verification:
    """One run.

    Args:
        source: what is verified.
        outside: checkpoints that were kept outside of it.
        keys: that may sign for Fleetlog; none: whichever has.
    """

    def __init__(self, source: Source, outside: Sequence[Outside] = (), keys: Collection[str] = ()) -> None:
        self._source = source
        self._outside: Mapping[int, Outside] = {one.statement.number: one for one in outside}
        self._trusted = frozenset(keys)
        self._keys: dict[str, None] = {}
        self._countersigned = self._agreeing = self._checkpoints = self._events = 0
        self._open: list[tuple[int, bytes]] = []
        """Entries since the last checkpoint."""

    def run(self, since: int = 0) -> Report:
        """Verify all from the last checkpoint at or before a position on."""
        at, begins_with = self._source.start(since)
        began = at.position
        finding = None
        unchained = 0
        try:
            if begins_with is not None:
                self._look_at(begins_with, begins_with.verify())
            for reached in self._through(at):
                at = reached
            self._all_kept_are_there(at)
            unchained = self._source.beyond(at.position)
        except _FoundError as found:
            finding = found.finding
        except BadCheckpointError as error:
            finding = Finding(Kind.CHECKPOINT, None, str(error))
        except ArchiveDamagedError as error:
            finding = Finding(Kind.ALTERED, at.position + 1, f"after position {at.position}: {error}")
        return Report(
            finding=finding,
            since=began,
            position=at.position,
            events=self._events,
            checkpoints=self._checkpoints,
            last_checkpoint=at.checkpoint,
            chain_head=at.head.hex(),
            keys=list(self._keys),
            countersigned=self._countersigned,
            outside=self._agreeing,
            under_no_checkpoint=len(self._open),
            unchained=unchained,
        )

    def _through(self, at: Start) -> Iterator[Start]:
        checkpoints = iter(self._source.checkpoints(at.checkpoint))
        waiting = next(checkpoints, None)
        for page in self._source.pages(at.page):
            at = self._page(at, page)
            if waiting is not None and waiting.read().last_position <= page.last_position:
                at = self._checkpoint(at, waiting)
                waiting = next(checkpoints, None)
            yield at
        if waiting is not None:
            statement = waiting.read()
            raise _FoundError(
                Kind.CHAIN,
                at.position + 1,
                f"the chain ends at position {at.position}, and checkpoint {statement.number} reaches to"
                f" {statement.last_position}",
            )

    def _page(self, at: Start, page: Page) -> Start:
        if page.number != at.page + 1:
            raise _FoundError(Kind.CHAIN, at.position + 1, f"page {at.page + 1} of the chain is missing")
        rows = self._source.events(at.position, page.last_position)
        leaves = leaves_of(rows)
        try:
            entries = unpack(page.entries)
        except ValueError as error:
            raise _FoundError(Kind.CHAIN, at.position + 1, f"page {page.number} of the chain: {error}") from error
        if pack((row[0] for row in rows), leaves) != page.entries:
            found = first_difference(rows, entries)
            if found is not None:
                raise _FoundError(found.kind, found.position, found.detail)
        head = fold(at.head, leaves)
        if not entries or entries[-1][0] != page.last_position or head != page.head:
            raise _FoundError(
                Kind.CHAIN,
                at.position + 1,
                f"page {page.number} of the chain, after position {at.position}, does not follow from its events and"
                " the page before",
            )
        self._events += len(rows)
        self._open += entries
        return msgspec.structs.replace(at, page=page.number, position=page.last_position, head=head)

    def _checkpoint(self, at: Start, checkpoint: Checkpoint) -> Start:
        statement = self._verified(at, checkpoint)
        expected = msgspec.structs.replace(
            statement,
            number=at.checkpoint + 1,
            previous=at.statement_sha256,
            events=len(self._open),
            first_position=self._open[0][0],
            last_position=at.position,
            total_events=at.total_events + len(self._open),
            root=merkle.root([leaf for _, leaf in self._open]).hex(),
            chain_head=at.head.hex(),
        )
        self._kept_agrees(statement)
        if statement != expected:
            self._name_by_kept(statement.number)
            wrong = [
                name for name in statement.__struct_fields__ if getattr(statement, name) != getattr(expected, name)
            ]
            raise _FoundError(
                Kind.CHECKPOINT,
                self._open[0][0],
                f"checkpoint {statement.number} says another {' and '.join(wrong)} than the chain gives between"
                f" positions {self._open[0][0]} and {at.position}",
            )
        self._look_at(checkpoint, statement)
        self._checkpoints += 1
        self._open = []
        return msgspec.structs.replace(
            at,
            checkpoint=statement.number,
            statement_sha256=checkpoint.sha256,
            total_events=statement.total_events,
        )

    def _look_at(self, checkpoint: Checkpoint, statement: Statement) -> None:
        if self._trusted and statement.key not in self._trusted:
            raise _FoundError(
                Kind.CHECKPOINT,
                statement.first_position,
                f"checkpoint {statement.number} is signed with the key {statement.key}, which is none that you trust",
            )
        self._keys[statement.key] = None
        self._countersigned += any(one.key != statement.key for one in checkpoint.signatures)
        outside = self._outside.get(statement.number)
        if outside is not None:
            self._kept_agrees(statement)
            self._agreeing += 1

    def _verified(self, at: Start, checkpoint: Checkpoint) -> Statement:
        try:
            return checkpoint.verify()
        except BadCheckpointError:
            self._name_by_kept(at.checkpoint + 1)
            raise

    def _kept_agrees(self, statement: Statement) -> None:
        """Hold a checkpoint against the one of its number that was kept outside."""
        kept = self._outside.get(statement.number)
        if kept is None or kept.statement == statement:
            return
        self._name_by_kept(statement.number)
        first, last = kept.statement.first_position, kept.statement.last_position
        where = (
            f"before position {first}" if kept.statement.root == statement.root else f"from position {first} to {last}"
        )
        raise _FoundError(
            Kind.REWRITTEN,
            first,
            f"the history {where} is another than the one that checkpoint {statement.number} vouched for when it was"
            " exported",
        )

    def _name_by_kept(self, number: int) -> None:
        """Where the leaves were exported too, they tell which event it is."""
        kept = self._outside.get(number)
        if kept is None or kept.entries is None:
            return
        if merkle.root([leaf for _, leaf in kept.entries]).hex() != kept.statement.root:
            raise BadCheckpointError(f"The leaves beside checkpoint {number} are not those that it was made over.")
        first, last = kept.statement.first_position, kept.statement.last_position
        found = first_difference(self._source.events(first - 1, last), kept.entries)
        if found is not None:
            raise _FoundError(found.kind, found.position, f"{found.detail}, as the exported checkpoint {number} shows")

    def _all_kept_are_there(self, at: Start) -> None:
        gone = sorted(number for number in self._outside if number > at.checkpoint)
        if gone:
            statement = self._outside[gone[0]].statement
            raise _FoundError(
                Kind.REWRITTEN,
                statement.first_position,
                f"checkpoint {statement.number}, which reaches to position {statement.last_position}, was exported and"
                f" is not there; the last one is {at.checkpoint}",
            )
