"""Seals what is personal on its way into the log, and opens it on its way out, with the keys beside the log.

No key is kept in memory. Each lot of events that has personal fields asks for the keys of its subjects, by their index:
so an erasure holds in every process from the moment when it is committed, and nobody has to be told of it. Events
without such fields, which are all of commands and their results, never come here.

A reader asks for keys after it has read rows. An erasure destroys the key in the transaction that records it, so
whoever has read the erasure, or anything after it, finds no key.
"""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from domain.event import Change, Metadata
from domain.ids import derived_id
from domain.personal import KEY_BYTES, SubjectKind, in_clear
from domain.sealed import BY_TOPIC, Marked, erased_by, marked_changes, marked_rows, opened, sealed, to_seal, withheld
from schema import personal_keys
from schema.archive import Row
from schema.arrays import uuids
from schema.reading import COLUMNS

NAMES = derived_id("personal-key", "names")
"""Its row is of nobody: it keeps what names are hashed with."""
LOT_EVENTS = 100
"""As many as are packed at a time: see command_bus/overlap.py."""
PAGE = 1000
_ROWS: LiteralString = f"SELECT {COLUMNS} FROM fleetlog.events"  # noqa: S608 - column names of our own
_ORDERED: LiteralString = "notification_id > %(after)s ORDER BY notification_id LIMIT %(limit)s"
_OF: dict[SubjectKind, LiteralString] = {
    SubjectKind.AGENT: f"{_ROWS} WHERE agent_id = %(agent_id)s AND topic = ANY(%(topics)s::text[]) AND {_ORDERED}",
    # Each type by its index, or all of the log would be read for the first few.
    SubjectKind.USER: "SELECT one.* FROM unnest(%(topics)s::text[]) AS each (topic) CROSS JOIN LATERAL"  # noqa: S608 - as above
    f" ({_ROWS} WHERE events.topic = each.topic AND {_ORDERED}) AS one ORDER BY notification_id LIMIT %(limit)s",
}
Fetch = Callable[[str, dict[str, Any]], Awaitable[list[tuple[Any, ...]]]]
Items = Sequence[tuple[Sequence[Change], Metadata]]


class PersonalData:
    """Of one log.

    Args:
        fetch: runs a statement that may be run twice, and returns its rows.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def sealed(self, changes: Sequence[Change]) -> list[Change]:
        """Changes with what is personal sealed; a subject that has no key yet gets one.

        A key without an event, as after an append that failed, is of no use to anybody and does no harm.
        """
        marked = marked_changes(changes)
        return sealed(changes, marked, await self._made_keys(marked), os.urandom)

    async def sealed_each(self, items: Items) -> tuple[Items, Mapping[int, Sequence[UUID]]]:
        """The same of several appends; and whom each of them erases, by its index."""
        flat = await self.sealed([change for changes, _ in items for change in changes])
        source = iter(flat)
        parts = [(list(itertools.islice(source, len(changes))), metadata) for changes, metadata in items]
        erased = {index: subjects for index, (changes, _) in enumerate(parts) if (subjects := erased_by(changes))}
        return parts, erased

    def sealing(self, changes: Iterable[Change], loop: asyncio.AbstractEventLoop) -> Iterator[Change]:
        """The same, drawn lazily in a thread, while the loop runs in another.

        Raises:
            ValueError: one of them is an erasure, which is appended by itself.
        """
        source = iter(changes)
        while lot := list(itertools.islice(source, LOT_EVENTS)):
            if to_seal(lot):
                if erased_by(lot):
                    raise ValueError("An erasure is no part of a bulk.")
                lot = asyncio.run_coroutine_threadsafe(self.sealed(lot), loop).result()
            yield from lot

    async def opened(self, rows: list[Row]) -> list[Row]:
        """Rows with what is sealed opened, and what was erased shown as that."""
        marked = marked_rows(rows)
        return opened(rows, marked, await self._keys(marked)) if marked else rows

    async def withheld(self, rows: Sequence[Row]) -> frozenset[int]:
        """Which rows, by their index, hold in the clear what was erased."""
        marked = marked_rows(rows)
        return withheld(marked, await self._keys(marked)) if marked else frozenset()

    async def in_clear(self, kind: SubjectKind, subject: UUID) -> int:
        """How many events hold something of a subject unsealed.

        The archive is not asked: what moves there are streams of commands and rollouts, which hold nothing personal.
        """
        topics = [topic for topic, personal in BY_TOPIC.items() if personal.of is kind]
        asked = {"topics": topics, "agent_id": subject, "limit": PAGE}
        found, after = 0, 0
        while rows := await self._fetch(_OF[kind], asked | {"after": after}):
            found += sum(one.subject == subject and in_clear(one.body, one.personal) for one in marked_rows(rows))
            after = rows[-1][0]
        return found

    async def names_key(self) -> bytes:
        """The fleet's own, made when it is first asked for."""
        key = (await self._made([NAMES]))[NAMES]
        if key is None:
            raise LookupError("The key of names is gone.")
        return key

    async def _keys(self, marked: Sequence[Marked]) -> dict[UUID, bytes | None]:
        return await self._of({one.subject for one in marked})

    async def _of(self, subjects: Iterable[UUID]) -> dict[UUID, bytes | None]:
        found = await self._fetch(personal_keys.SELECT, {"subjects": uuids(subjects)})
        return {subject: key for subject, key in found}  # noqa: C416 - says what a row is

    async def _made_keys(self, marked: Sequence[Marked]) -> dict[UUID, bytes | None]:
        return await self._made({one.subject for one in marked}) if marked else {}

    async def _made(self, subjects: Iterable[UUID]) -> dict[UUID, bytes | None]:
        wanted = set(subjects)
        keys = await self._of(wanted)
        while missing := sorted(wanted.difference(keys)):
            fresh = [os.urandom(KEY_BYTES) for _ in missing]
            await self._fetch(personal_keys.ADD, {"subjects": uuids(missing), "keys": fresh})
            # Another may have made it first: what is there counts.
            keys |= await self._of(missing)
        return keys
