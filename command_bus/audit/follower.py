"""Follows the log and chains it. It runs in the worker role: nobody waits for it, and appending knows nothing of it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge

from command_bus.audit.chain import Chain, Connection, Interval
from command_bus.audit.keys import load_seed
from command_bus.audit.leading import Leading

LOCK_KEY = 7380948517104312301
REST_S = 1.0
"""Between two looks while little happens: what comes in that time is one page of the chain, and one row."""

CHAINED = Counter("fleetlog_chain_events_total", "Events that this process has put into the audit chain.")
POSITION = Gauge("fleetlog_chain_position", "How far the audit chain is, where this process keeps it.")
CHECKPOINTS = Counter("fleetlog_chain_checkpoints_total", "Checkpoints that this process has signed.")

_log = structlog.get_logger(__name__)


class ChainFollower(Leading):
    """Keeps the audit chain.

    Args:
        conninfo: as the application connects.
        interval: when a checkpoint is due.
        clock: now.
        key_file: of the key that signs; see `load_seed`.
        rest_s: between two looks while little happens.
    """

    def __init__(
        self,
        conninfo: str,
        interval: Interval,
        clock: Callable[[], datetime],
        *,
        key_file: Path | None = None,
        rest_s: float = REST_S,
    ) -> None:
        super().__init__(conninfo, "audit-chain", LOCK_KEY)
        self._interval = interval
        self._clock = clock
        self._key_file = key_file
        self._rest_s = rest_s
        self._chain: Chain | None = None

    def lead(self, connection: Connection) -> None:
        # A plan that was made while a table was empty would read all of it from then on.
        connection.execute("SET enable_seqscan = off")
        self._chain = Chain(connection, load_seed(connection, self._key_file), self._interval, self._clock)
        POSITION.set(self._chain.position)

    def step(self, connection: Connection) -> float:
        del connection  # the chain has it
        chain = self._chain
        if chain is None:
            raise RuntimeError("It does not lead.")
        if chain.due() and (statement := chain.seal()) is not None:
            CHECKPOINTS.inc()
            _log.info("checkpoint", number=statement.number, position=statement.last_position, root=statement.root)
        CHAINED.inc(chain.extend())
        POSITION.set(chain.position)
        # What is under way goes on at once; single events are gathered for a moment.
        return self._rest_s if chain.caught_up and not chain.due() else 0
