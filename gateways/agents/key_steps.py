"""Steps of the server's own keys as the API takes them: with what agents and NATS servers have to say to it."""

import asyncio
from collections.abc import Sequence

import psycopg

from command_bus.handlers.server_keys import Step
from command_bus.postgres import app_conninfo
from domain.errors import KeyNotTakenError
from domain.server_keys import Purpose
from gateways.agents.connection import lets_in
from gateways.agents.key_changes import KeyChanges, KeyStanding
from gateways.agents.keys import load_keys
from gateways.tls import SYSTEM, Authorities
from projections.agents import Unaware, unaware_of_key

AT_NATS = frozenset({Purpose.GATEWAY, Purpose.SYSTEM})
"""Keys that NATS servers know by their configuration."""


class KeySteps:
    """See `command_bus.handlers.server_keys.KeySteps`.

    Args:
        changes: takes them.
        url: the database.
        nats_urls: of the servers that have to know a key before the one before it goes.
        authorities: whom to trust there.
    """

    def __init__(
        self, changes: KeyChanges, url: str, nats_urls: Sequence[str], authorities: Authorities = SYSTEM
    ) -> None:
        self._changes = changes
        self._url = url
        self._nats_urls = nats_urls
        self._authorities = authorities

    async def standings(self, at: int | None = None) -> list[KeyStanding]:
        """Every key there is, or was, as of a position where one is named."""
        return await self._changes.standings(at)

    async def rotation(self, purpose: Purpose) -> Step:
        return await self._changes.rotation(purpose)

    async def retirement(self, purpose: Purpose, *, force: bool) -> Step:
        if not force:
            await must_be_taken(self._url, purpose, self._nats_urls, self._authorities)
        return await self._changes.retirement(purpose, self._count, force=force)

    async def settle(self) -> None:
        await self._changes.settle()

    def _count(self, number: int) -> Unaware:
        async def read() -> Unaware:
            conninfo = app_conninfo(self._url, name="fleetlog-keys")
            async with await psycopg.AsyncConnection.connect(conninfo) as connection:
                return await unaware_of_key(connection, number)

        return asyncio.run(read())


async def must_be_taken(url: str, purpose: Purpose, nats_urls: Sequence[str], authorities: Authorities) -> None:
    """Make sure that NATS servers let the newest of two keys in, where it is of those that they know.

    Args:
        url: the database.
        purpose: of the keys.
        nats_urls: of the servers.
        authorities: whom to trust there.

    Raises:
        KeyNotTakenError: one does not.
    """
    if purpose not in AT_NATS:
        return
    keys = (await asyncio.to_thread(load_keys, url)).users[purpose]
    if len(keys) < 2:  # noqa: PLR2004 -- nothing to end: the log says so better
        return
    for server in nats_urls:
        if not await lets_in(server, keys[-1], authorities):
            raise KeyNotTakenError(
                f"The NATS server at {server} does not let {purpose} key number {len(keys)} in (yet): put what "
                "`fleetlog config nats` prints on it and reload it, or say --force."
            )
