"""For each write of the API that keys can do, too: a request that succeeds, and what it is to leave in the log."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest

from command_bus.handlers.duplicates import DuplicateNotices
from command_bus.ids import new_id
from domain.duplicates import Sighting
from domain.errors import EnrollmentWaitingError
from domain.ids import AgentId, ClientId
from schema.wire import EnrollRequest
from tests.rest.harness import Api, Fleet, made
from tests.rest.people import FIRST, Person
from tests.rest.provider import RunningProvider
from tests.rest.sso import linked, plain_user
from tests.rest.test_rollouts import members, settle

ALL: dict[str, Any] = {"role": "administrator", "everything": True}
PING = {"kind": "ping"}
ASKS = {"approval": "required"}
SHELL = {"shell": "sh", "body": "true"}
TEXT = {"kind": "text", "on": ["client", "site", "agent"]}
CHECK = {"name": "x", "what": {"kind": "disk", "error": 10}, "target": {"include": {"everything": True}}}
HOOK = {"kind": "webhook", "url": "https://hook.example.com/in"}


class Asked(msgspec.Struct):
    """A request."""

    ids: dict[str, str] = {}
    """What stands in its path."""
    body: Any = {}
    http: Any = None
    """Who sends it; None for whoever the test has send all."""
    actor: str = ""
    form: bool = False
    status: int | None = None
    """Of the answer, where that is none of a success."""


class Ground:
    """A fleet with whatever a request needs, made by an administrator; each thing is made anew.

    Args:
        api: a running API.
        fleet: a client with a site.
        http: who sends the requests.
        provider: whom people may log in through.
    """

    def __init__(self, api: Api, fleet: Fleet, http: httpx2.AsyncClient, provider: RunningProvider) -> None:
        self.api = api
        self.fleet = fleet
        self.http = http
        self.provider = provider
        self._made = 0

    def name(self) -> str:
        self._made += 1
        return self.last

    @property
    def last(self) -> str:
        """The name that was given last."""
        return f"thing_{self._made}"

    async def _id(self, path: str, body: dict[str, Any], http: Any = None) -> str:
        return str((await made(http or self.fleet.http, path, body))["id"])

    async def agent(self) -> dict[str, str]:
        return {"agent_id": await self.fleet.agent(self.name())}

    async def after(self, thing: str, step: str) -> dict[str, str]:
        """One that something was done to already."""
        ids: dict[str, str] = await getattr(self, thing)()
        kind = thing.partition("_")[2] or thing
        await made(self.fleet.http, f"/{kind}s/{ids[f'{kind}_id']}/{step}", {})
        return ids

    async def suspended_agent(self) -> dict[str, str]:
        return await self.after("agent", "suspend")

    async def retired_agent(self) -> dict[str, str]:
        return await self.after("agent", "retire")

    async def doubled_agent(self) -> dict[str, str]:
        agent_id = (await self.agent())["agent_id"]
        one, two = (Sighting(address="192.0.2.1", hostname=name, machine=name, instance=name) for name in "ab")
        notices, client_id = DuplicateNotices(self.api.log, new_id), ClientId(UUID(self.fleet.client_id))
        assert await notices.noticed(AgentId(UUID(agent_id)), client_id, one, two, "test")
        return {"agent_id": agent_id}

    async def note(self) -> dict[str, str]:
        ids = await self.agent()
        return ids | {"note_id": await self._id(f"/agents/{ids['agent_id']}/notes", {"text": "x"})}

    async def command(self) -> dict[str, str]:
        return {"command_id": await self.fleet.command(**await self.agent())}

    async def failed_command(self) -> dict[str, str]:
        agent_id = (await self.agent())["agent_id"]
        command_id = await self.fleet.command(agent_id)
        await self.fleet.finish(agent_id, command_id, "failed")
        return {"command_id": command_id}

    async def rollout_body(self, **more: Any) -> dict[str, Any]:
        agents = [(await self.agent())["agent_id"] for _ in range(2)]
        return {"name": self.name(), "target": {"include": {"agents": agents}}, "spec": PING} | more

    async def rollout(self) -> dict[str, str]:
        """One that has a wave to come."""
        body = await self.rollout_body(waves=[{"count": 1, "manual": True}])
        return {"rollout_id": await self._id("/rollouts", body)}

    async def open_rollout(self) -> dict[str, str]:
        """One that more may join."""
        joins = {"target": {"include": {"sites": [self.fleet.site_id]}}, "joins_within_s": 60}
        return {"rollout_id": await self._id("/rollouts", await self.rollout_body() | joins)}

    async def paused_rollout(self) -> dict[str, str]:
        return await self.after("rollout", "pause")

    async def script(self) -> dict[str, str]:
        return {"script_id": await self._id("/scripts", {"name": self.name(), "content": SHELL})}

    async def check(self) -> dict[str, str]:
        return {"check_id": await self._id("/checks", CHECK | {"name": self.name()})}

    async def disabled_check(self) -> dict[str, str]:
        return await self.after("check", "disable")

    async def archived_script(self) -> dict[str, str]:
        return await self.after("script", "archive")

    async def client(self) -> dict[str, str]:
        return {"client_id": await self._id("/clients", {"name": self.name()})}

    async def site(self) -> dict[str, str]:
        path = f"/clients/{self.fleet.client_id}/sites"
        return {"site_id": await self._id(path, {"name": self.name()})}

    async def token(self) -> dict[str, str]:
        return {"token_id": await self._id("/enrollment-tokens", {"site_id": self.fleet.site_id})}

    async def waiting_machine(self) -> str:
        token = await made(self.fleet.http, "/enrollment-tokens", {"site_id": self.fleet.site_id, **ASKS})
        return await waits(self.api, token["token"])

    async def user(self) -> dict[str, str]:
        return {"user_id": await plain_user(self.api, self.name())}

    async def disabled_user(self) -> dict[str, str]:
        return await self.after("user", "disable")

    async def linked_user(self) -> dict[str, str]:
        user_id = (await self.user())["user_id"]
        return {"user_id": user_id, "identity_id": await linked(self.api, user_id, self.name())}

    async def person(self) -> Person:
        """Somebody who has logged in, and may do everything."""
        return await Person.ready(self.api, self.name(), ALL)

    async def person_id(self) -> dict[str, str]:
        return {"user_id": (await self.person()).user_id}

    async def role(self) -> dict[str, str]:
        return {"role_id": await self._id("/roles", {"name": self.name(), "permissions": []})}

    async def key(self) -> dict[str, str]:
        return {"key_id": await self._id("/api-keys", {"name": self.name(), "role": "read-only"})}

    async def secret(self) -> dict[str, str]:
        return {"secret_id": await self._id("/secrets", {"name": self.name(), "value": "long enough"})}

    async def field(self) -> dict[str, str]:
        return {"field_id": await self._id("/fields", {"name": self.name(), "terms": TEXT})}

    async def view(self) -> dict[str, str]:
        return {"view_id": await self._id("/views", {"name": self.name()}, self.http)}

    async def destination(self) -> dict[str, str]:
        return {"destination_id": await self._id("/destinations", {"name": self.name(), "to": HOOK})}

    async def paused_destination(self) -> dict[str, str]:
        return await self.after("destination", "pause")

    async def careful(self) -> tuple[Any, dict[str, str]]:
        """Somebody who needs another person to add a client, and what waits for one."""
        limits = {"approval_for": ["clients.manage"]}
        may = ["clients.manage", "clients.see", "approvals.see"]
        name = self.name()
        await made(self.fleet.http, "/roles", {"name": name, "permissions": may, "limits": limits})
        user_id = await plain_user(self.api, self.name(), {"role": name, "everything": True})
        key = await made(self.fleet.http, "/api-keys", {"name": name, "owner_id": user_id, "unattended": True})
        http = self.api.client(key["key"])
        waits = await http.post("/clients", json={"name": self.name()})
        assert waits.status_code == 409, waits.text
        return http, {"approval_id": waits.json()["approval_id"]}

    async def approval(self) -> dict[str, str]:
        return (await self.careful())[1]


async def waits(api: Api, token: str, hostname: str = "web-07", **more: Any) -> str:
    """A machine that came by a token that asks for approval; returns what its wish is called."""
    asked = EnrollRequest(
        token=token,
        public_key=more.get("public_key", new_id().hex * 2),
        proof="",
        hostname=hostname,
        platform="linux",
        arch="x86_64",
        agent_version="0.1.0",
    )
    with pytest.raises(EnrollmentWaitingError) as waiting:
        await api.enrollment().enroll(asked, "192.0.2.7")
    return str(waiting.value.extra["enrollment_id"])


Make = Callable[[Ground], Awaitable[Asked]]


class Row(msgspec.Struct):
    """One write."""

    make: Make
    gains: list[str]
    """Types of the events, in their order."""


def row(make: Make, gains: str) -> Row:
    return Row(make, gains.split())


def on(thing: str, gains: str, **body: Any) -> Row:
    """To something that there is."""

    async def make(ground: Ground) -> Asked:
        return Asked(await getattr(ground, thing)(), body)

    return Row(make, gains.split())


def new(gains: str, **body: Any) -> Row:
    """It needs nothing."""

    async def make(_: Ground) -> Asked:
        return Asked({}, body)

    return Row(make, gains.split())


async def a_key(ground: Ground) -> Asked:
    return Asked({}, {"name": "x", "role": "read-only", "owner_id": (await ground.user())["user_id"]})


async def queue(ground: Ground) -> Asked:
    return Asked({}, {"spec": PING} | await ground.agent())


async def tag_many(ground: Ground) -> Asked:
    return Asked({}, {"agents": [(await ground.agent())["agent_id"] for _ in range(2)], "add": ["x"]})


async def move(ground: Ground) -> Asked:
    return Asked(await ground.agent(), await ground.site())


async def start(ground: Ground) -> Asked:
    return Asked({}, await ground.rollout_body())


async def retry_failed(ground: Ground) -> Asked:
    rollout_id = (await ground.rollout())["rollout_id"]
    await settle(ground.api, ground.fleet)
    (one,) = [one for one in await members(ground.fleet, rollout_id) if one["state"] == "queued"]
    await ground.fleet.finish(one["agent_id"], one["command_id"], "failed")
    await settle(ground.api, ground.fleet)
    return Asked({"rollout_id": rollout_id})


async def token(ground: Ground) -> Asked:
    return Asked({}, await ground.site())


async def guarded_token(ground: Ground) -> Asked:
    return Asked({}, await ground.site() | ASKS)


async def machine(ground: Ground) -> Asked:
    return Asked({}, {"enrollments": [await ground.waiting_machine()]})


async def refused_machine(ground: Ground) -> Asked:
    enrollment_id = await ground.waiting_machine()
    await made(ground.fleet.http, "/enrollments/refuse", {"enrollments": [enrollment_id]})
    return Asked({"enrollment_id": enrollment_id})


async def site(ground: Ground) -> Asked:
    return Asked(await ground.client(), {"name": "Annex"})


async def erase_filled(ground: Ground) -> Asked:
    ids = await ground.agent()
    await ground.field()
    values = {ground.last: "x"}
    filled = await ground.fleet.http.patch(f"/agents/{ids['agent_id']}/fields", json={"values": values})
    assert filled.is_success, filled.text
    await made(ground.fleet.http, f"/agents/{ids['agent_id']}/retire", {})
    return Asked(ids)


def fill(thing: str) -> Row:
    async def make(ground: Ground) -> Asked:
        await ground.field()
        values = {ground.last: "x"}
        return Asked(await getattr(ground, thing)(), {"values": values})

    return Row(make, ["FieldsFilled"])


async def retire_gateway(ground: Ground) -> Asked:
    answer = await ground.http.post("/server-keys/rotate", json={"key": "gateway"})
    assert answer.is_success, answer.text
    return Asked({}, {"key": "gateway", "force": True})


async def withdraw(ground: Ground) -> Asked:
    http, ids = await ground.careful()
    return Asked(ids, {}, http, (await http.get("/me")).json()["actor"])


async def decide(ground: Ground) -> Asked:
    """A key does not."""
    ids, other = await ground.approval(), await ground.person()
    return Asked(ids, {}, other.http, f"user:{other.user_id}")


GAINS: dict[tuple[str, str], Row] = {
    ("POST", "/commands"): row(queue, "CommandQueued"),
    ("POST", "/commands/{command_id}/cancel"): on("command", "CommandCancelled"),
    ("PUT", "/commands/{command_id}/priority"): on("command", "CommandPriorityChanged", priority=1),
    ("POST", "/commands/{command_id}/retry"): on("failed_command", "CommandQueued"),
    ("PUT", "/retention"): new("RetentionSet", archive_after_days=90, output_keep_days=30, output_keep_bytes=None),
    ("POST", "/server-keys/rotate"): new("ServerKeyAnnounced", key="issuer"),
    ("POST", "/server-keys/retire"): row(retire_gateway, "ServerKeyRetired"),
    ("POST", "/agents/tags"): row(tag_many, "AgentTagged AgentTagged"),
    ("PUT", "/agents/{agent_id}/name"): on("agent", "AgentRenamed", name="x"),
    ("PUT", "/agents/{agent_id}/tags"): on("agent", "AgentTagged", tags=["x"]),
    ("PUT", "/agents/{agent_id}/site"): row(move, "AgentMoved"),
    ("POST", "/agents/{agent_id}/suspend"): on("agent", "AgentSuspended"),
    ("POST", "/agents/{agent_id}/resume"): on("suspended_agent", "AgentResumed"),
    ("POST", "/agents/{agent_id}/duplicate"): on("doubled_agent", "AgentDuplicateSettled", stays="present"),
    ("POST", "/agents/{agent_id}/retire"): on("agent", "AgentRetired"),
    ("POST", "/agents/{agent_id}/erase"): row(erase_filled, "FieldsFilled SubjectErased"),
    ("POST", "/agents/{agent_id}/notes"): on("agent", "AgentNoteWritten", text="x"),
    ("PUT", "/agents/{agent_id}/notes/{note_id}"): on("note", "AgentNoteWritten", text="y"),
    ("POST", "/agents/{agent_id}/notes/{note_id}/remove"): on("note", "AgentNoteRemoved"),
    ("POST", "/checks"): new("CheckDefined", **CHECK),
    ("POST", "/checks/plan"): new("", **CHECK),
    ("PUT", "/checks/{check_id}"): on("check", "CheckDefined", **CHECK),
    ("POST", "/checks/{check_id}/disable"): on("check", "CheckDisabled"),
    ("POST", "/checks/{check_id}/enable"): on("disabled_check", "CheckEnabled"),
    ("POST", "/checks/{check_id}/remove"): on("check", "CheckRemoved"),
    ("POST", "/rollouts"): row(start, "RolloutTargeted RolloutStarted"),
    ("POST", "/rollouts/plan"): row(start, ""),
    ("POST", "/rollouts/{rollout_id}/pause"): on("rollout", "RolloutPaused"),
    ("POST", "/rollouts/{rollout_id}/resume"): on("paused_rollout", "RolloutResumed"),
    ("POST", "/rollouts/{rollout_id}/release"): on("rollout", "RolloutWaveReleased"),
    ("POST", "/rollouts/{rollout_id}/close"): on("open_rollout", "RolloutClosed"),
    ("POST", "/rollouts/{rollout_id}/abort"): on("rollout", "RolloutAborted"),
    ("POST", "/rollouts/{rollout_id}/retry-failed"): row(retry_failed, "RolloutRetried"),
    ("POST", "/scripts/{script_id}/favourite"): on("script", "ScriptFavoured"),
    ("POST", "/scripts"): new("ScriptCreated ScriptRevised NameClaimed", name="x", content=SHELL),
    ("PATCH", "/scripts/{script_id}"): on("script", "ScriptRenamed NameClaimed NameReleased", name="y"),
    ("POST", "/scripts/{script_id}/archive"): on("script", "ScriptArchived"),
    ("POST", "/scripts/{script_id}/restore"): on("archived_script", "ScriptRestored"),
    ("POST", "/scripts/{script_id}/revisions"): on("script", "ScriptRevised", content=SHELL | {"body": "false"}),
    ("POST", "/clients"): new("ClientCreated NameClaimed", name="x"),
    ("PATCH", "/clients/{client_id}"): on("client", "ClientRenamed NameClaimed NameReleased", name="y"),
    ("POST", "/clients/{client_id}/sites"): row(site, "SiteCreated NameClaimed"),
    ("PATCH", "/sites/{site_id}"): on("site", "SiteRenamed NameClaimed NameReleased", name="y"),
    ("POST", "/enrollment-tokens"): row(token, "EnrollmentTokenCreated"),
    ("POST", "/enrollment-tokens/{token_id}/revoke"): on("token", "EnrollmentTokenRevoked"),
    ("POST", "/enrollments/approve"): row(machine, "EnrollmentApproved EnrollmentTokenUsed AgentEnrolled"),
    ("POST", "/enrollments/refuse"): row(machine, "EnrollmentRefused"),
    ("POST", "/enrollments/{enrollment_id}/erase"): row(refused_machine, "SubjectErased"),
    ("POST", "/users"): new("UserCreated NameClaimed", name="x"),
    ("PATCH", "/users/{user_id}"): on("user", "UserChanged NameClaimed NameReleased", name="y"),
    ("PUT", "/users/{user_id}/grants"): on("user", "UserGranted", grants=[ALL]),
    ("POST", "/users/{user_id}/disable"): on("person_id", "UserDisabled SessionsRevoked"),
    ("POST", "/users/{user_id}/enable"): on("disabled_user", "UserEnabled"),
    ("POST", "/users/{user_id}/erase"): on("disabled_user", "NameReleased SubjectErased"),
    ("PUT", "/users/{user_id}/password"): on("user", "PasswordSet", password=FIRST),
    ("POST", "/users/{user_id}/second-factor/reset"): on("person_id", "TotpRemoved"),
    ("POST", "/users/{user_id}/sessions/revoke"): on("person_id", "SessionsRevoked"),
    ("POST", "/users/{user_id}/identities"): on("user", "IdentityLinked IdentityHeld", subject="x"),
    ("POST", "/users/{user_id}/identities/{identity_id}/remove"): on("linked_user", "IdentityUnlinked IdentityFreed"),
    ("POST", "/roles"): new("RoleCreated NameClaimed", name="x", permissions=[]),
    ("PATCH", "/roles/{role_id}"): on("role", "RoleChanged", permissions=["agents.see"]),
    ("POST", "/roles/{role_id}/retire"): on("role", "RoleRetired"),
    ("POST", "/api-keys"): row(a_key, "ApiKeyCreated"),
    ("POST", "/api-keys/{key_id}/revoke"): on("key", "ApiKeyRevoked"),
    ("POST", "/approvals/{approval_id}/approve"): row(decide, "ApprovalGranted ClientCreated NameClaimed"),
    ("POST", "/approvals/{approval_id}/refuse"): row(decide, "ApprovalRefused"),
    ("POST", "/approvals/{approval_id}/withdraw"): row(withdraw, "ApprovalWithdrawn"),
    ("POST", "/audit/extracts"): new("HistoryExtracted"),
    ("POST", "/secrets"): new("SecretSet", name="x", value="long enough"),
    ("POST", "/secrets/rotate"): new("SecretsRewrapped"),
    ("POST", "/secrets/{secret_id}/remove"): on("secret", "SecretRemoved"),
    ("POST", "/fields"): new("FieldDefined", name="x", terms=TEXT),
    ("POST", "/fields/{field_id}/remove"): on("field", "FieldRemoved"),
    ("PATCH", "/clients/{client_id}/fields"): fill("client"),
    ("PATCH", "/sites/{site_id}/fields"): fill("site"),
    ("PATCH", "/agents/{agent_id}/fields"): fill("agent"),
    ("POST", "/views"): new("ViewSaved", name="x"),
    ("PUT", "/views/{view_id}"): on("view", "ViewSaved", name="y"),
    ("POST", "/views/{view_id}/remove"): on("view", "ViewRemoved"),
    ("POST", "/destinations"): new("DestinationAdded NameClaimed", name="x", to=HOOK),
    ("PUT", "/destinations/{destination_id}"): on(
        "destination", "DestinationChanged NameClaimed NameReleased", name="y", to=HOOK
    ),
    ("POST", "/destinations/{destination_id}/pause"): on("destination", "DestinationPaused"),
    ("POST", "/destinations/{destination_id}/resume"): on("paused_destination", "DestinationResumed"),
    ("POST", "/destinations/{destination_id}/skip"): on("destination", "DestinationSkipped", position=1, reason="x"),
    ("POST", "/destinations/{destination_id}/remove"): on("destination", "DestinationRemoved NameReleased"),
}
"""What a key does as a person in a session does it."""


async def favoured(ground: Ground) -> Asked:
    ids = await ground.script()
    await made(ground.http, f"/scripts/{ids['script_id']}/favourite", {})
    return Asked(ids, {"favourite": False})


async def delivered(ground: Ground) -> Asked:
    agent_id = (await ground.agent())["agent_id"]
    command_id = await ground.fleet.command(agent_id)
    await ground.fleet.accept(agent_id, command_id)
    return Asked({"command_id": command_id})


async def asks_for_another(ground: Ground) -> Asked:
    http, _ = await ground.careful()
    return Asked({}, {"name": "z"}, http, (await http.get("/me")).json()["actor"], status=409)


VARIANTS: list[tuple[tuple[str, str], Row]] = [
    (("POST", "/enrollment-tokens"), row(guarded_token, "GuardedTokenCreated")),
    (("POST", "/scripts/{script_id}/favourite"), row(favoured, "ScriptUnfavoured")),
    (("PATCH", "/scripts/{script_id}"), on("script", "ScriptFiled", folder="Backup")),
    (("POST", "/commands/{command_id}/cancel"), row(delivered, "CommandCancelRequested")),
    (("POST", "/clients"), row(asks_for_another, "ApprovalRequested")),
]
"""The same where something else comes of it."""
