"""Installing updates and restarting machines, over REST: who may, what is shown of it, and machines found by it."""

from uuid import UUID

from command_bus.handlers.presence import PresenceHandler
from command_bus.ids import new_id
from domain.ids import AgentId, ClientId
from domain.permissions import Permission
from domain.roles import Role
from schema import patches
from tests.rest.harness import Api, Fleet

INSTALL = {
    "kind": "install_updates", "names": ["nginx"], "security_only": True, "held": ["linux-*"], "reboot": "if_needed",
}  # fmt: skip


async def test_it_takes_its_permission(api: Api, fleet: Fleet) -> None:
    """Who may queue commands, and nothing more, installs and restarts nothing; helpdesk does, an auditor does not."""
    agent_id = await fleet.agent()
    allowed = api.client(await api.key_that_may(role=Role.HELPDESK))
    auditor = api.client(await api.key_that_may(role=Role.AUDITOR))
    for spec in (INSTALL, {"kind": "reboot"}):
        body = {"agent_id": agent_id, "spec": spec}
        assert (await allowed.post("/commands", json=body)).status_code == 202
        refused = await auditor.post("/commands", json=body)
        assert refused.status_code == 403
    role = {"name": "queues", "permissions": [Permission.COMMANDS_QUEUE, Permission.AGENTS_SEE]}
    assert (await fleet.http.post("/roles", json=role)).is_success
    key = await api.key_that_may(grants=[{"role": "queues", "everything": True}])
    refused = await api.client(key).post("/commands", json={"agent_id": agent_id, "spec": {"kind": "reboot"}})
    assert refused.status_code == 403
    assert "commands.patch" in refused.json()["detail"]


async def test_what_came_of_each_update_is_shown(fleet: Fleet) -> None:
    """In the command, in the list of what was installed and restarted, and in the machine's story."""
    agent_id = await fleet.agent()
    await fleet.command(agent_id)
    command_id = await fleet.command(agent_id, spec=INSTALL)
    updates = [
        patches.UpdateOutcome(name="nginx", version="1.24", outcome="failed", why="E: no"),
        patches.UpdateOutcome(name="vim", version="9.1", outcome="installed"),
    ]
    told = patches.PatchReport(updates=updates, installed=1, reboot_needed=True)
    await fleet.finish(agent_id, command_id, "failed", patched=told, detail="1 installed, 1 failed")
    shown = (await fleet.http.get(f"/commands/{command_id}")).json()
    assert shown["result"]["patched"] == {
        "updates": [
            {"name": "nginx", "version": "1.24", "outcome": "failed", "why": "E: no"},
            {"name": "vim", "version": "9.1", "outcome": "installed"},
        ],
        "installed": 1,
        "reboot_needed": True,
    }
    query = {"patches": "true", "agent_id": agent_id}
    listed = (await fleet.http.get("/commands", params=query)).json()["items"]
    assert [one["spec"]["kind"] for one in listed] == ["reboot", "install_updates"]
    assert listed[1]["result"]["patched"] == shown["result"]["patched"]
    story = (await fleet.http.get("/events", params={"agent_id": agent_id, "limit": 100})).json()["items"]
    texts = " ".join(one["text"] for one in story)
    assert "install security updates of nginx, but not linux-*; then restart it if that is needed" in texts
    assert "1 installed, 1 failed" in texts
    assert "restart the machine after 5 min" in texts


async def test_machines_that_wait_to_be_restarted(api: Api, fleet: Fleet) -> None:
    """A machine says so among its facts; one that cannot say is neither one that waits nor one that does not."""
    answers = {"waits": True, "is-fine": False, "cannot-say": None}
    for name, needed in answers.items():
        agent_id = await fleet.agent(name)
        facts = {"hostname": name, "reboot_needed": needed}
        presence = PresenceHandler(api.log, new_id)
        await presence.facts(AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id)), facts)

    async def found(**query: str) -> dict[str, bool | None]:
        items = (await fleet.http.get("/agents", params=query)).json()["items"]
        return {one["name"]: one["reboot_needed"] for one in items}

    assert await found() == answers
    assert await found(reboot_needed="true") == {"waits": True}
    assert await found(reboot_needed="false") == {"is-fine": False}
    plan = {"name": "all", "target": {"include": {"matching": {"reboot_needed": True}}}, "spec": {"kind": "reboot"}}
    planned = await fleet.http.post("/rollouts/plan", json=plan)
    assert planned.json()["targeted"] == 1
