"""The server's delivery key takes over from another, for agents that come over HTTP alone."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from agent.identity import Identity
from command_bus.event_log import Selection
from command_bus.ids import new_id, utc_now
from domain.agents import AgentServerKeyLearned
from domain.commands import Command, CommandQueued, CommandRejected, Ping
from domain.event import Metadata
from domain.ids import ClientId, SiteId
from domain.server_keys import Purpose
from gateways.agents.key_changes import KeyChanges
from gateways.agents.keys import load_keys
from gateways.bench.simulated import enroll_simulated
from projections.agents import Unaware
from tests.agent.scripted import AgentProcess
from tests.rest.harness import Api, composed

DELIVERY = Purpose.DELIVERY


async def _queued(api: Api, agent_id: object) -> Command:
    command = Command(new_id())
    queued = CommandQueued(
        agent_id=agent_id,  # type: ignore[arg-type]
        client_id=ClientId(new_id()),
        site_id=SiteId(new_id()),
        spec=Ping(),
        lane="default",
        priority=5,
        expires_at=utc_now() + timedelta(hours=1),
    )
    await api.log.append([command.queue(queued, utc_now())], Metadata(actor="system", correlation_id=new_id()))
    return command


async def test_an_agent_that_was_away_comes_back_over_http(
    postgres_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through two rotations, both keys before gone, and killed as it hears of it: the chain brings it over."""
    monkeypatch.setattr("gateways.agents.http_runs.ANSWER_S", 0.2)  # for the run that was killed
    async with composed(postgres_url, agents=True) as api:
        (simulated,) = await enroll_simulated(api.log, 1, ClientId(new_id()), SiteId(new_id()))
        folder = data_dir / "agent"
        folder.mkdir(mode=0o711)
        (folder / "agent.key").write_text(simulated.seed.hex())
        Identity(
            agent_id=simulated.agent_id,
            server_url=api.url.removesuffix("/api/v1"),
            server_public_key=load_keys(postgres_url).delivery.public_hex,
            nats_urls=[],
        ).save(folder)
        changes = KeyChanges(api.log, postgres_url, new_id)
        for _ in range(2):
            await changes.rotate(DELIVERY)
            await changes.retire(DELIVERY, lambda _: Unaware(1, 1, ["it"]), force=True)
        command = await _queued(api, simulated.agent_id)
        agent = AgentProcess(folder)
        try:
            for crash_at in ("server_key_heard", "server_key_kept"):
                agent.start(crash_at=crash_at, transport="http")
                await agent.exited()
            agent.start(transport="http")
            async with asyncio.timeout(20):
                done = Selection(stream_id=command.stream_id, types=("CommandSucceeded", "CommandRejected"))
                async for page in api.log.follow(0, done):
                    assert not [one for one in page if isinstance(one.event, CommandRejected)]
                    if page:
                        break
                learned = Selection(agent_id=simulated.agent_id, types=(AgentServerKeyLearned.__name__,))
                async for page in api.log.follow(0, learned):
                    assert all(one.event == AgentServerKeyLearned(number=3) for one in page)
                    if page:
                        break
        finally:
            sys.stdout.write(agent.log.read_text())  # shown if it fails
            agent.clean_up()
        identity = Identity.load(folder)
        assert identity.server_keys == []
        assert identity.server_public_key == load_keys(postgres_url).delivery.public_hex
