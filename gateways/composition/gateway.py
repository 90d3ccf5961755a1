"""The gateway role."""

import socket

from command_bus.ids import new_id
from gateways.agents.service import GatewayService
from gateways.agents.steps import Steps, nothing
from gateways.composition.parts import Assembly, Parts
from gateways.settings import Settings


def build_gateway(settings: Settings, *, steps: Steps = nothing) -> Assembly:
    """The gateway role."""
    parts = Parts(settings, "gateway", by_index=True)
    gateway = GatewayService(
        parts.log,
        parts.pool,
        parts.postgres_url,
        parts.nats_urls,
        # Unlike any other, also on a machine that runs several or runs them one after the other.
        f"{socket.gethostname()}-{new_id().hex[-8:]}",
        lease_s=settings.lease_s,
        concurrency=settings.delivery_concurrency,
        uplink_group=settings.uplink_group,
        stop_timeout_s=settings.stop_timeout_s / 2,
        master_keys=parts.master_keys,
        authorities=parts.authorities,
        told=parts.told,
        steps=steps,
        valkey_url=settings.redis_url.get_secret_value() if settings.redis_url is not None else None,
    )
    return Assembly([*parts.services, gateway])
