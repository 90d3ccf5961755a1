"""The keys that personal data are sealed with: a row for each agent or user, beside the log.

A row with no key is one that was erased. It stays, so that none is made for the subject again, and so that what was
recorded of it before there was sealing is known to be withheld.
"""

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

from schema.arrays import uuids
from schema.reading import Cursor

SELECT: LiteralString = "SELECT subject, key FROM fleetlog.personal_keys WHERE subject = ANY(%(subjects)s::uuid[])"
ADD: LiteralString = (
    "INSERT INTO fleetlog.personal_keys (subject, key) SELECT * FROM unnest(%(subjects)s::uuid[], %(keys)s::bytea[])"
    " ON CONFLICT (subject) DO NOTHING RETURNING subject, key"
)
_DESTROY: LiteralString = (
    " ON CONFLICT (subject) DO UPDATE SET key = NULL, erased_at = excluded.erased_at"
    " WHERE personal_keys.key IS NOT NULL"
)
ERASE: LiteralString = (
    "INSERT INTO fleetlog.personal_keys (subject, erased_at)"  # noqa: S608 - no value is in it
    f" SELECT subject, now() FROM unnest(%s::uuid[]) AS subject{_DESTROY}"
)
ERASE_WITH_APPEND: LiteralString = (
    "INSERT INTO fleetlog.personal_keys (subject, erased_at)"  # noqa: S608 - as above
    f" SELECT subject, recorded FROM appended, unnest(%s::uuid[]) AS subject{_DESTROY}"
)
"""As part of the statement that appends: see `InlineFold.parts`."""


def keys_of(cursor: Cursor, subjects: Sequence[UUID]) -> dict[UUID, bytes | None]:
    """The keys of subjects; None where one was destroyed, and nothing where there never was one."""
    cursor.execute(SELECT, {"subjects": uuids(list(dict.fromkeys(subjects)))})
    found: Sequence[Any] = cursor.fetchall()
    return dict(found)
