"""Invariant 8: a key limited to some clients or sites sees those, and nothing else, by any way there is."""

import asyncio
import contextlib
import json
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.event_log import Selection
from command_bus.ids import new_id, utc_now
from command_bus.intents.sessions import Own
from domain.ids import AgentId, ClientId
from domain.roles import Role
from gateways.agents.software import SoftwareReports
from gateways.rest.openapi import build_document
from gateways.rest.route import Route
from gateways.rest.routes import ROUTES
from schema.software import Package, listed, pack
from tests.audit.chaining import signed
from tests.rest.foreign import MAKERS, belongings
from tests.rest.gains import ASKS, waits
from tests.rest.harness import Api, Fleet, made, sse
from tests.rest.people import Person
from tests.rest.sso import api, provider, running, terms

__all__ = ["api", "provider", "running", "terms"]

NOT_OF_TENANTS = (
    "/api-keys",
    "/me",
    "/permissions",
    "/approvals/{approval_id}",
    "/audit/extracts/{extract_id}",
    "/session",
    "/sessions",
    "/session/passkeys",
    "/session/sso",
)
READS = [
    route for route in ROUTES if route.method == "GET" and not route.everywhere and route.path not in NOT_OF_TENANTS
]
OF_ALL = ("/scripts/{script_id}/favourite",)
"""Whoever runs scripts has favourites of their own among those that all may run."""
WRITES = [
    route
    for route in ROUTES
    if route.intent is not None and not issubclass(route.intent, Own) and route.path not in OF_ALL
]
SHARED = ("/scripts", "/audit/checkpoints", "/fields")
"""Scripts belong to no tenant: all may run them. Checkpoints vouch for all, and show nobody. What a field holds is said
once for all."""


class Tenant:
    """Everything that one client has, or one site of a client."""

    def __init__(self, ids: dict[str, str], words: set[str], *, of_site: bool = False) -> None:
        self.of_site = of_site
        self.ids = ids
        self.words = words
        """Every id and name that only this tenant may see."""
        self.agents: list[str] = []
        self.commands: list[str] = []

    @property
    def grant(self) -> dict[str, Any]:
        """The administrator's role over it, and over nothing else."""
        over = {"sites": [self.ids["site_id"]]} if self.of_site else {"clients": [self.ids["client_id"]]}
        return {"role": "administrator", **over}


async def furnish(api: Api, name: str, client_id: str | None = None) -> Tenant:
    """A tenant with one of everything, and of commands one that waits and one that has ended.

    Args:
        api: to make it through.
        name: in all that is named.
        client_id: it is to be a site of this client.
    """
    http = api.client()
    if client_id is None:
        fleet = await Fleet.make(api, http, name)
    else:
        site = await made(http, f"/clients/{client_id}/sites", {"name": name})
        fleet = Fleet(api, http, client_id, site["id"])
    agent_id = await fleet.agent(f"{name}-host")
    installed = pack(listed([Package(f"{name}-package", "1")], updates_known=True))
    owner = AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id))
    await SoftwareReports(api.log, api.pool, utc_now, new_id).reported(*owner, installed)
    open_id = await fleet.command(agent_id, reason=f"{name}-reason")
    ended_id = await fleet.command(agent_id)
    await fleet.finish(agent_id, ended_id)
    tokens = (await http.get("/enrollment-tokens")).json()["items"]
    (token_id,) = [token["id"] for token in tokens if token["site_id"] == fleet.site_id]
    rollout = {"name": f"{name}-rollout", "target": {"include": {"agents": [agent_id]}}, "spec": {"kind": "ping"}}
    rollout_id = (await made(http, "/rollouts", rollout))["id"]
    ids = {"client_id": fleet.client_id, "site_id": fleet.site_id, "agent_id": agent_id, "command_id": ended_id}
    guarded = await made(http, "/enrollment-tokens", {"site_id": fleet.site_id, **ASKS})
    ids |= {"rollout_id": rollout_id, "token_id": token_id, "waiting_token_id": guarded["id"]}
    ids["enrollment_id"] = await waits(api, guarded["token"], f"{name}-newcomer")
    scope = {"kind": "site", "site_id": fleet.site_id}
    secret = {"name": "db", "value": "long enough", "note": f"{name}-note", "scope": scope}
    ids["secret_id"] = (await made(http, "/secrets", secret))["id"]
    words = {
        *ids.values(),
        open_id,
        name,
        *(
            f"{name}-{what}"
            for what in ("host", "reason", "rollout", "note", "seat", "view", "remark", "newcomer", "package")
        ),
    }
    field = {"name": "seat", "terms": {"kind": "text", "on": ["agent"]}}
    ids["field_id"] = (await made(http, "/fields", field))["id"]
    ids["note_id"] = (await made(http, f"/agents/{agent_id}/notes", {"text": f"{name}-remark"}))["id"]
    view = {"name": f"{name}-view", "site_id": fleet.site_id, "shared": True}
    ids["view_id"] = (await made(http, "/views", view))["id"]
    filled = await http.patch(f"/agents/{agent_id}/fields", json={"values": {"seat": f"{name}-seat"}})
    http.headers["Fleetlog-Wait-Position"] = filled.headers["Fleetlog-Position"]
    tenant = Tenant(ids, words - {client_id}, of_site=client_id is not None)
    # Whoever sees all of the fleet would have it for all of the fleet.
    own = api.client(await api.key_that_may(grants=[tenant.grant]))
    check = {"name": f"{name}-check", "what": {"kind": "disk", "error": 9}, "target": {"include": {"everything": True}}}
    ids["check_id"] = (await made(own, "/checks", check))["id"]
    tenant.words |= {ids["check_id"], f"{name}-check"}
    http.headers["Fleetlog-Wait-Position"] = str(await api.log.head())
    return tenant


def address(route: Route, tenant: Tenant, script_id: str) -> str:
    return route.path.format(**tenant.ids, script_id=script_id, revision=1, checkpoint=1)


async def text_of(api: Api, key: str, path: str, query: dict[str, Any], route: Route) -> tuple[int, str]:
    """All that an answer says; of a stream, what it says until it has caught up with a marker."""
    client = api.client(key, check=False)
    if route.media_type == "text/event-stream" and route.path.endswith("/stream"):
        return await _until_quiet(client, path, query | ({"after": 0} if route.path == "/events/stream" else {}))
    response = await client.get(path, params=query)
    return response.status_code, response.text


async def _until_quiet(client: Any, path: str, query: dict[str, Any]) -> tuple[int, str]:
    seen = ""
    async with client.stream("GET", path, params=query) as response:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                async for event in sse(response):
                    seen += json.dumps(event)
    return response.status_code, seen


async def test_a_tenant_sees_its_own_and_nothing_else(api: Api, postgres_url: str) -> None:
    """Over every GET route, every mix of ids and filters: no id, name or text of another tenant comes back.

    The first two are clients, the other two sites of one client.
    """
    tenants = [await furnish(api, name) for name in ("acme", "globex")]
    initech = (await made(api.client(), "/clients", {"name": "initech"}))["id"]
    tenants += [await furnish(api, name, initech) for name in ("berlin", "hamburg")]
    script = await made(api.client(), "/scripts", {"name": "s", "content": {"shell": "sh", "body": "true"}})
    keys = [await api.key_that_may(grants=[tenant.grant]) for tenant in tenants]
    for tenant in tenants:
        (event,) = await api.log.read(Selection(agent_id=UUID(tenant.ids["agent_id"])), limit=1)
        tenant.ids["position"] = str(event.position)
    await asyncio.to_thread(signed, postgres_url)
    head = await api.log.head()
    await api.client().get("/commands", params={"wait_position": head})
    loop = asyncio.get_running_loop()

    async def proof(me: int, route: Route, filters: dict[str, int], backwards: bool) -> None:
        mine, other = tenants[me], tenants[me ^ 1]
        names = set(route.query.model_fields)
        wanted = {name: tenants[me ^ whose].ids[name] for name, whose in filters.items() if name in names}
        if "backwards" in names:
            wanted["backwards"] = str(backwards).lower()
        asks_of_other = any(whose for name, whose in filters.items() if name in names)
        # Its own things it sees ...
        status, text = await text_of(api, keys[me], address(route, mine, script["id"]), wanted, route)
        assert status in (200, 404), (route.path, text)
        if not asks_of_other:
            assert status == 200, (route.path, text)
        assert not [word for word in other.words if word in text and word not in wanted.values()], route.path
        # ... and another's do not exist.
        shared_client = mine.of_site and set(route.path_names) == {"client_id"}
        if route.path_names and not route.path.startswith(SHARED) and not shared_client:
            status, text = await text_of(api, keys[me], address(route, other, script["id"]), wanted, route)
            assert status == 404, route.path

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        me=st.integers(0, 3),
        route=st.sampled_from(READS),
        filters=st.dictionaries(st.sampled_from(["client_id", "site_id", "agent_id"]), st.integers(0, 1)),
        backwards=st.booleans(),
    )
    def property_(me: int, route: Route, filters: dict[str, int], backwards: bool) -> None:
        asyncio.run_coroutine_threadsafe(proof(me, route, filters, backwards), loop).result(30)

    await asyncio.to_thread(property_)


class Crowd:
    """Tenants of random sizes; each of their names and reasons says whose it is."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._http = api.client()
        self.tenants: list[Tenant] = []
        self.position = 0

    async def add(self, agents: int, commands: int) -> None:
        name = f"tenant{len(self.tenants)}x"
        fleet = await Fleet.make(self._api, self._http, name)
        words = {name, fleet.client_id, fleet.site_id}
        tenant = Tenant({"client_id": fleet.client_id, "site_id": fleet.site_id}, words)
        for number in range(agents):
            agent_id = await fleet.agent(f"{name}-host{number}")
            tenant.agents.append(agent_id)
            for turn in range(commands):
                command_id = await fleet.command(agent_id, reason=f"{name}-reason{turn}")
                tenant.commands.append(command_id)
                if turn % 2:
                    await fleet.finish(agent_id, command_id)
        words |= {*tenant.agents, *tenant.commands}
        self.tenants.append(tenant)
        self.position = await self._api.log.head()

    async def touch(self, tenant: Tenant) -> int:
        """Have something happen to it, to know a stream's end by."""
        site = await made(self._http, f"/clients/{tenant.ids['client_id']}/sites", {"name": f"marker{new_id()}"})
        site_id = UUID(site["id"])
        return (await self._api.log.read_heads([site_id]))[site_id].position


Ask = tuple[str, int, int, bool]
"""What to read, whose (by number), a page's size, newest first."""
Asking = st.tuples(
    st.sampled_from(
        ["clients", "agents", "commands", "tokens", "events", "export", "stream", "agent", "queue", "timeline", "story"]
    ),
    st.integers(0, 30),
    st.sampled_from([2, 7, 500]),
    st.booleans(),
)
LISTS = {
    "clients": ("/clients", lambda tenant: [tenant.ids["client_id"]]),
    "agents": ("/agents", lambda tenant: tenant.agents),
    "commands": ("/commands", lambda tenant: tenant.commands),
    "tokens": ("/enrollment-tokens", None),
    "events": ("/events", None),
}


async def read_pages(client: Any, path: str, **query: Any) -> list[Any]:
    """All of a list, page by page."""
    items: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        response = await client.get(path, params=query | cursor)
        assert response.status_code == 200, (path, response.text)
        items += response.json()["items"]
        if response.json()["next"] is None:
            return items
        cursor = {"cursor": response.json()["next"]}


async def read_one(crowd: Crowd, client: Any, seen: list[Tenant], whose: Tenant, ask: Ask) -> str:
    """Read as asked, and return all that came back; what is one's own must be there, and what is not is not found."""
    what, number, limit, backwards = ask
    wait = {"wait_position": crowd.position}
    if what in LISTS:
        path, own = LISTS[what]
        query = wait | {"limit": limit} | ({"backwards": str(backwards).lower()} if what == "events" else {})
        items = await read_pages(client, path, **query)
        if own is not None:
            assert {item["id"] for item in items} == {one for tenant in seen for one in own(tenant)}
        return json.dumps(items)
    if what == "export":
        return str((await client.get("/events/export")).text)
    if what == "stream":
        upto, text = await crowd.touch(seen[0]), ""
        async with asyncio.timeout(20), client.stream("GET", "/events/stream", params={"after": 0}) as response:
            async for position, _, event in sse(response):
                text += json.dumps(event)
                if int(position or 0) >= upto:
                    return text
    ids = whose.commands if what == "story" else whose.agents
    if not ids:
        return ""
    wanted = ids[number % len(ids)]
    path = {
        "agent": f"/agents/{wanted}",
        "queue": f"/agents/{wanted}/queue",
        "timeline": f"/agents/{wanted}/timeline",
        "story": f"/commands/{wanted}/events",
    }[what]
    response = await client.get(path, params=wait)
    assert response.status_code == (200 if whose in seen else 404), (path, response.text)
    return str(response.text).replace(wanted, "") if whose not in seen else str(response.text)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=3),
    limited_to=st.sets(st.integers(0, 30), min_size=1, max_size=3),
    asks=st.lists(Asking, min_size=4, max_size=12),
)
async def test_whoever_a_key_is_limited_to_it_sees_those_alone(
    api: Api, sizes: list[tuple[int, int]], limited_to: set[int], asks: list[Ask]
) -> None:
    """Random fleets, keys for random tenants, random reads: all of one's own, and not a word of anybody else's."""
    crowd = _crowds.setdefault(api.url, Crowd(api))  # it grows from example to example, as the database does
    for size in sizes:
        await crowd.add(*size)
    seen = [crowd.tenants[at] for at in {one % len(crowd.tenants) for one in limited_to}]
    client = api.client(await api.key(Role.ADMIN, [UUID(tenant.ids["client_id"]) for tenant in seen]))
    strange = {word for tenant in crowd.tenants if tenant not in seen for word in tenant.words}
    for ask in asks:
        whose = crowd.tenants[ask[1] % len(crowd.tenants)]
        text = await read_one(crowd, client, seen, whose, ask)
        assert not [word for word in strange if word in text], ask


_crowds: dict[str, Crowd] = {}


async def test_a_tenants_live_stream_is_its_own(api: Api) -> None:
    """While two tenants' events interleave, each stream tells one of them."""
    https = [api.client(), api.client()]
    fleets = [await Fleet.make(api, http, name) for http, name in zip(https, ("acme", "globex"), strict=True)]
    keys = [await api.key(Role.AUDITOR, [fleet.client_id]) for fleet in fleets]  # type: ignore[list-item]

    async def listen(key: str, ready: asyncio.Event) -> list[Any]:
        async with api.client(key).stream("GET", "/events/stream") as response:
            ready.set()
            events = sse(response)
            return [(await anext(events))[2] for _ in range(10)]

    ready = [asyncio.Event(), asyncio.Event()]
    listening = [asyncio.create_task(listen(*each)) for each in zip(keys, ready, strict=True)]
    for event in ready:
        await event.wait()
    for i in range(10):
        for fleet in fleets:
            await made(fleet.http, f"/clients/{fleet.client_id}/sites", {"name": f"s{i}"})
    async with asyncio.timeout(20):
        for fleet, seen in zip(fleets, await asyncio.gather(*listening), strict=True):
            assert {event["client_id"] for event in seen} == {fleet.client_id}


async def test_each_parameter_of_an_address_has_a_real_thing_of_anothers(api: Api) -> None:
    """An address with a parameter that nobody makes a thing for would be tried with nothing at all."""
    ids = (await furnish(api, "globex")).ids | dict.fromkeys(MAKERS, "")
    named = {
        parameter["name"]
        for operations in build_document(ROUTES)["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "path"
    }
    assert named - set(ids) == set()


async def test_what_is_a_persons_own_is_nobody_elses(api: Api) -> None:
    """Another person's session and passkey are not found, by somebody who may do everything; both stay."""
    globex = await furnish(api, "globex")
    owner = await belongings(api, "globex", globex.ids)
    bob = (await Person.ready(api, "Bob", {"role": "administrator", "everything": True})).http
    own = [route for route in ROUTES if route.path_names and route.intent is not None and issubclass(route.intent, Own)]
    own = [route for route in own if set(route.path_names) <= {"session_id", "passkey_id"}]
    assert len(own) == 3
    for route in own:
        answer = await bob.request(
            route.method, route.path.format(**globex.ids), json={"name": "mine"} if "rename" in route.path else {}
        )
        assert answer.status_code == 404, (route.path, answer.text)
    assert owner.person is not None
    (kept,) = (await owner.person.http.get("/session/passkeys")).json()["items"]
    assert (kept["id"], kept["name"]) == (globex.ids["passkey_id"], "laptop")


async def test_a_tenants_key_changes_nothing_of_others(api: Api) -> None:
    """Every write route, at another client's address or another site's: not found or forbidden, and not recorded.

    What people do for themselves is nobody's but theirs, and a key has none of it.
    """
    acme, globex = await furnish(api, "acme"), await furnish(api, "globex")
    branch = await furnish(api, "branch", globex.ids["client_id"])
    await belongings(api, "globex", globex.ids)
    for mine, other in ((acme, globex), (branch, globex)):
        client = api.client(await api.key_that_may(grants=[mine.grant]))
        before = await api.log.head()
        for route in WRITES:
            path, body = write_to(route, other)
            response = await client.request(route.method, path, json=body)
            assert response.status_code in (403, 404), (route.method, route.path, response.text)
        assert await api.done_since(before) == []


def write_to(route: Route, other: Tenant) -> tuple[str, dict[str, Any]]:
    """A request that would change what the other has."""
    include = {"agents": [other.ids["agent_id"]]}
    bodies: dict[str, dict[str, Any]] = {
        "name": {"name": "mine"},
        "site": {"site_id": other.ids["site_id"]},
        "tags": {"tags": ["mine"]},
        "clients": {"name": "mine"},
        "sites": {"name": "mine"},
        "client_id": {"name": "mine"},
        "site_id": {"name": "mine"},
        "scripts": {"name": "mine", "content": {"shell": "sh", "body": "true"}},
        "script_id": {"name": "mine"},
        "revisions": {"content": {"shell": "sh", "body": "true"}},
        "commands": {"agent_id": other.ids["agent_id"], "spec": {"kind": "ping"}},
        "checks": {"name": "mine", "target": {"include": include}, "what": {"kind": "disk", "error": 9}},
        "check_id": {"name": "mine", "target": {"include": include}, "what": {"kind": "disk", "error": 9}},
        "rollouts": {"name": "mine", "target": {"include": include}, "spec": {"kind": "ping"}},
        "plan": {"name": "mine", "target": {"include": include}, "spec": {"kind": "ping"}},
        "enrollment-tokens": {"site_id": other.ids["site_id"]},
        "api-keys": {"name": "mine"},
        "users": {"name": "mine"},
        "user_id": {"name": "mine"},
        "grants": {"grants": []},
        "identities": {"subject": "mine"},
        "roles": {"name": "mine", "permissions": []},
        "role_id": {"name": "mine"},
        "secrets": {"name": "mine", "value": "long enough", "scope": {"kind": "site", "site_id": other.ids["site_id"]}},
        "extracts": {"agent_id": other.ids["agent_id"]},
        "priority": {"priority": 0},
        "notes": {"text": "mine"},
        "note_id": {"text": "mine"},
        "skip": {"position": 1, "reason": "mine"},
        "duplicate": {"stays": "present"},
        "fields": {"name": "mine", "terms": {"kind": "text", "on": ["agent"]}},
        "views": {"name": "mine", "site_id": other.ids["site_id"]},
        "view_id": {"name": "mine"},
        "approve": {"enrollments": [other.ids["enrollment_id"]]},
        "refuse": {"enrollments": [other.ids["enrollment_id"]]},
        "destinations": {"name": "mine", "to": {"kind": "syslog", "host": "example.com"}},
        "retention": {"archive_after_days": 1, "output_keep_days": 1, "output_keep_bytes": 1},
        "destination_id": {"name": "mine", "to": {"kind": "syslog", "host": "example.com"}},
    }
    if route.path.startswith("/approvals/"):
        del bodies["approve"], bodies["refuse"]
    body = bodies.get(route.path.rpartition("/")[2].strip("{}"), {})
    if route.path == "/checks/plan":
        body = bodies["checks"]
    if route.path.startswith("/server-keys"):
        body = {"key": "issuer"}
    if route.path == "/agents/tags":
        body = {**include, "add": ["mine"]}
    if route.method == "PATCH" and route.path.endswith("/fields"):
        body = {"values": {"seat": "mine"}}
    return route.path.format(**other.ids), body


async def test_no_role_over_one_tenant_reaches_another(api: Api, postgres_url: str) -> None:
    """Each built-in role over a client alone, at each read and write of another's: not found or forbidden.

    Lists have nothing of it, and the log gains nothing.
    """
    acme, globex = await furnish(api, "acme"), await furnish(api, "globex")
    await belongings(api, "globex", globex.ids)
    await asyncio.to_thread(signed, postgres_url)
    keys = {role: await api.key_that_may(grants=[{**acme.grant, "role": role.value}]) for role in Role}
    head = await api.log.head()
    await api.client().get("/commands", params={"wait_position": head})
    clients = {role: api.client(key, check=False) for role, key in keys.items()}
    at_once = asyncio.Semaphore(8)

    async def walk(role: Role, route: Route) -> str:
        async with at_once:
            wrong = await beyond(clients[role], route, globex)
        return f"{role} {route.method} {route.path}: {wrong}" if wrong else ""

    at_places = [one for one in ROUTES if one.method == "GET" and one.path_names and one not in READS]
    routes = [*(one for one in (*READS, *at_places) if not one.path.startswith(SHARED)), *WRITES]
    found = await asyncio.gather(*(walk(role, route) for role in Role for route in routes))
    assert [one for one in found if one] == []
    assert await api.done_since(head) == []


async def beyond(client: Any, route: Route, other: Tenant) -> str:
    """What is wrong with the answer about another's; empty where nothing is."""
    if route.intent is not None:
        path, body = write_to(route, other)
        response = await client.request(route.method, path, json=body)
        return "" if response.status_code in (403, 404) else f"{response.status_code} {response.text}"
    path = route.path.format(**other.ids)
    if route.path_names:
        response = await client.get(path)
        return "" if response.status_code in (403, 404) else f"{response.status_code} {response.text}"
    if route.media_type == "text/event-stream":
        return ""  # what has no end is followed by tests of its own
    filters = ("client_id", "site_id", "agent_id", "command_id", "rollout_id", "token_id")
    asked = {name: other.ids[name] for name in filters if name in route.query.model_fields}
    for query in ({}, *({name: value} for name, value in asked.items())):
        response = await client.get(path, params=query)
        shown = [word for word in other.words if word in response.text and word not in query.values()]
        if shown or response.status_code >= 500:
            return f"{query} {response.status_code} {shown}"
    return ""
