"""The log in Postgres keeps the contract."""

from tests.event_log.conformance import EventLogConformance


class TestPostgresEventLog(EventLogConformance):
    """All of the conformance suite."""
