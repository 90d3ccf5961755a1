"""Fresh ids and the clock, as they are outside of tests."""

from datetime import UTC, datetime
from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """A version 7 UUID (RFC 9562): time-ordered, so that indexes grow at one end."""
    return uuid_utils.compat.uuid7()


def utc_now() -> datetime:
    return datetime.now(UTC)
