"""What roles stand on."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from command_bus.postgres import BY_INDEX, AsyncPool, make_pool
from command_bus.postgres_log import PostgresEventLog
from gateways.agents.leases import Holds
from gateways.agents.trust import Told
from gateways.cancelling import end
from gateways.local.roles import Service
from gateways.master_keys import master_keys
from gateways.settings import Settings, need
from gateways.tls import Authorities
from projections.catalog import INLINE


class Follower(Service, Protocol):
    """A service that may end by itself."""

    async def wait(self) -> None:
        """Return or raise when it is over."""


class OpenPool:
    """A pool with the life of a service."""

    def __init__(self, pool: AsyncPool) -> None:
        self.pool = pool

    async def start(self) -> None:
        await self.pool.open(wait=False)

    async def stop(self) -> None:
        await self.pool.close()


class Assembly:
    """Services that make up one role: started in order, stopped in the reverse; the last one speaks for all.

    Args:
        services: what the role stands on first, the role itself last.
        beside: those of them whose end, too, is the role's.
    """

    def __init__(self, services: Sequence[Service], beside: Sequence[Follower] = ()) -> None:
        self._services = list(services)
        self._beside = list(beside)
        self._started: list[Service] = []

    async def start(self) -> None:
        for service in self._services:
            # Noted before it has started: one that is stopped half-way still has something to close.
            self._started.append(service)
            await service.start()

    async def stop(self) -> None:
        while self._started:
            await self._started.pop().stop()

    async def wait(self) -> None:
        """Return or raise when the role is over; one that cannot end by itself is waited for for ever."""
        over = getattr(self._services[-1], "wait", asyncio.Event().wait)
        tasks = [asyncio.ensure_future(wait()) for wait in (over, *(service.wait for service in self._beside))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(tasks)

    @property
    def note(self) -> str:
        note = getattr(self._services[-1], "note", "")
        return note if isinstance(note, str) else ""


class Parts:
    """What every role that reads or writes needs.

    Args:
        settings: of this process.
        name: of the role; in the names of its connections.
        by_index: its statements all have their index, see `BY_INDEX`; those of people who search may not.
    """

    def __init__(self, settings: Settings, name: str, *, by_index: bool = False) -> None:
        self.settings = settings
        self.name = name
        self.postgres_url = settings.database_url
        self.log = PostgresEventLog(self.postgres_url, inline=INLINE, name=name)
        self.pool = make_pool(
            self.postgres_url,
            max_size=settings.postgres_pool,
            name=f"fleetlog-{name}",
            settings=BY_INDEX if by_index else None,
        )
        # Handlers that hold an agent's lease row do so while they append: they must never wait for a connection that
        # those who wait for them have taken. So a pooler, which lends one server process to many, is not for them.
        self.holding_pool = make_pool(str(self.postgres_url), max_size=4, name=f"fleetlog-{name}-hold")
        self.holds = Holds(self.holding_pool)
        self.master_keys = master_keys(settings)

    @property
    def services(self) -> list[Service]:
        """To be started in this order and stopped in the reverse."""
        return [OpenPool(self.pool), OpenPool(self.holding_pool), self.log]

    @property
    def nats_urls(self) -> list[str]:
        return [url.strip() for url in need(self.settings.nats_url, "nats_url").split(",")]

    @property
    def agent_nats_urls(self) -> list[str]:
        told = self.settings.nats_agent_urls
        return [url.strip() for url in told.split(",")] if told else self.nats_urls

    @property
    def authorities(self) -> Authorities:
        """Whom to trust at NATS."""
        return Authorities(self.settings.nats_ca_file, self.settings.nats_tls_name)

    @property
    def told(self) -> Told:
        """Whom agents are to trust."""
        return Told(Authorities(self.settings.tls_ca_file), self.authorities)
