"""NATS as Fleetlog configures it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gateways.agents.keys import ServerKeys
from gateways.agents.nats_config import render_nats_config
from gateways.local.servers import EmbeddedNats, EmbeddedNatsCluster
from tests.shape import NATS_SIZE


@contextlib.contextmanager
def fleet_nats(
    folder: Path, keys: ServerKeys, *, size: int = NATS_SIZE
) -> Iterator[EmbeddedNats | EmbeddedNatsCluster]:
    """A NATS server, or a cluster of several, with Fleetlog's configuration."""
    config = render_nats_config(keys)
    server = EmbeddedNats(folder, config=config) if size == 1 else EmbeddedNatsCluster(folder, size=size, config=config)
    server.start()
    try:
        yield server
    finally:
        server.stop()
