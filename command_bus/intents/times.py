"""Times as people send them."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d")


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not _MOMENT.match(value):
        raise ValueError("a date and time as in RFC 3339, with its offset: 2026-01-31T12:00:00Z")
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo is not None else at
    except OverflowError:
        raise ValueError("no time that the log could know") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
"""A time as the document describes it, and not also a number of seconds in a string."""
