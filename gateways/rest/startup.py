"""Brings up what the API stands on, while the API already answers."""

from collections.abc import Sequence

import structlog

from gateways.rest.parts import Service

_log = structlog.get_logger("fleetlog.api")


class Startup:
    """Starts services one after the other, in the background, so that ``/readyz`` can speak of it meanwhile."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services
        self._started: list[Service] = []
        self.done = False
        self.fault: str | None = None

    async def run(self) -> None:
        for service in self._services:
            try:
                await service.start()
            except Exception as error:
                self.fault = f"{type(service).__name__}: {error}"
                _log.exception("start_failed", service=type(service).__name__)
                raise
            self._started.append(service)
        self.done = True

    def is_done(self) -> bool:
        return self.done

    async def stop(self) -> None:
        while self._started:
            await self._started.pop().stop()
