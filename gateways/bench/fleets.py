"""The fleet of `fleetlog simulate` on the platform of a bench."""

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from gateways.bench.platform import Http, Running
from gateways.cli.api import Api
from gateways.cli.errors import CommandLineError
from gateways.cli.profile import Profile
from gateways.simulate.enrollment import adopt
from gateways.simulate.fleet import Simulation
from gateways.simulate.plan import Plan


@contextlib.asynccontextmanager
async def simulated_fleet(running: Running, plan: Plan, agents: int) -> AsyncIterator[Simulation]:
    """Agents in a site of their own; `Simulation.run` begins.

    Args:
        running: the platform.
        plan: how they behave.
        agents: how many.
    """
    at = running.platform
    async with Http(at.api_url, running.key) as http:
        client = await http.json("POST", "/api/v1/clients", {"name": "Simulated"})
        site = await http.json("POST", f"/api/v1/clients/{client['id']}/sites", {"name": "Simulated"})
    client_id = UUID(client["id"])
    enrolled = await adopt(at.postgres_url, [at.nats_url], agents, client_id, UUID(site["id"]))
    with Api(Profile(at.api_url, running.key)) as api:
        yield Simulation(plan, enrolled, client_id, api, refusals=(CommandLineError,), tell=lambda _line: None)
