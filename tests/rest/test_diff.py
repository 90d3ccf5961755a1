"""What changed between two positions: the difference of the rows, told of those who may see it."""

import asyncio
import random
from typing import Any
from uuid import UUID

import msgspec

from command_bus.postgres import app_conninfo
from projections import replays
from projections.changes import KINDS, SPREAD
from tests.projections.database import rows_of
from tests.projections.histories import Fleet as Made
from tests.rest.harness import Api, Fleet, made
from tests.rest.test_isolation import furnish, read_pages


async def test_a_thing_that_changed_is_told_of_once(api: Api, fleet: Fleet) -> None:
    """What is new, what changed and from what to what; what went to and fro is not there."""
    http = api.client()
    agent, other = await fleet.agent("web-07"), await fleet.agent("web-08")
    earlier = await api.log.head()
    await http.put(f"/agents/{agent}/name", json={"name": "db-01"})
    await http.put(f"/agents/{agent}/tags", json={"tags": ["prod"]})
    await http.put(f"/agents/{other}/tags", json={"tags": ["prod"]})
    await http.put(f"/agents/{other}/tags", json={"tags": []})
    script = await made(http, "/scripts", {"name": "backup", "content": {"shell": "sh", "body": "true"}})
    later = await api.log.head()
    await http.put(f"/agents/{agent}/name", json={"name": "later"})
    answer = (await http.get("/diff", params={"earlier": earlier, "later": later})).json()
    assert (answer["earlier"], answer["later"], answer["next"]) == (earlier, later, None)
    items = {item["id"]: item for item in answer["items"]}
    assert set(items) == {agent, script["id"]}
    assert items[agent]["text"] == "Agent 'db-01': name was web-07, is db-01; tags was nothing, is prod."
    assert items[agent]["fields"] == [
        {"field": "name", "before": "web-07", "after": "db-01"},
        {"field": "tags", "before": None, "after": ["prod"]},
    ]
    assert (items[agent]["change"], items[agent]["events"]) == ("changed", 2)
    assert items[script["id"]]["text"] == "Script 'backup' is new."
    only = (await http.get("/diff", params={"earlier": earlier, "what": "agents", "agent_id": agent})).json()
    assert [item["name"] for item in only["items"]] == ["later"]
    assert (await http.get("/diff", params={"earlier": later + 5})).json()["code"] == "position_ahead"
    assert (await http.get("/diff", params={"earlier": later, "later": earlier})).json() == answer
    assert (await http.get("/diff", params={"earlier": "noon"})).json()["code"] == "unknown_replay"


def shown(kind: Any, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[UUID, dict[str, Any]]:
    """What is told of each row of a table."""
    found = {}
    for values in rows:
        row = dict(zip(names, values, strict=True))
        told: dict[str, Any] = {}
        for name in kind.columns:
            value = msgspec.json.decode(msgspec.json.encode(row[name]))
            if name in SPREAD:
                told |= {f"{name}.{part}": one for part, one in value.items()}
            elif value not in (None, "", [], {}):
                told[name] = value
        # What has its agent's key is told of by the id of its own stream.
        key = "enrollment_id" if kind.by_agent else kind.projection.tables[_table(kind)].key[0]
        found[row[key]] = told
    return found


def _table(kind: Any) -> int:
    return [table.name for table in kind.projection.tables].index(kind.table)


async def test_diffs_of_random_histories_are_those_of_their_replays(api: Api, postgres_url: str) -> None:
    """Between any two positions: exactly the things whose rows differ, each once, whatever the page's size."""
    http, conninfo = api.client(), app_conninfo(postgres_url)
    for seed in range(3):
        dice, fleet = random.Random(seed), Made(seed)
        for changes in fleet.history(150):
            await api.log.append(changes, fleet.metadata())
        head = await api.log.head()
        earlier, later = sorted(dice.sample(range(head + 1), 2))
        then = {}
        for position in (earlier, later):
            replay = await asyncio.to_thread(replays.make, conninfo, position, f"at-{position}")
            then[position] = rows_of(postgres_url, schema=replay.schema)
            await asyncio.to_thread(replays.drop, conninfo, replay.name)
        items = await read_pages(http, "/diff", earlier=earlier, later=later, limit=dice.choice([1, 7, 500]))
        told = {(item["what"], UUID(item["id"])): item for item in items}
        assert len(told) == len(items)
        expected = {}
        for kind in KINDS.values():
            names = kind.projection.tables[_table(kind)].names
            before, after = (shown(kind, names, then[position][kind.table]) for position in (earlier, later))
            for key in {*before, *after}:
                old, new = before.get(key, {}), after.get(key, {})
                fields = {
                    name: (old.get(name), new.get(name)) for name in {*old, *new} if old.get(name) != new.get(name)
                }
                if fields:
                    expected[kind.name, key] = fields
        assert set(told) == set(expected)
        for thing, fields in expected.items():
            assert {one["field"] for one in told[thing]["fields"]} == set(fields), thing


async def test_each_tenant_is_told_of_its_own(api: Api) -> None:
    """Of a machine that moved between tenants, each sees it come or go, and nothing of what it was or is elsewhere."""
    acme, globex = await furnish(api, "acme"), await furnish(api, "globex")
    http = api.client()
    agent = acme.ids["agent_id"]
    earlier = await api.log.head()
    await http.put(f"/agents/{agent}/name", json={"name": "acme-secret"})
    moved = await http.put(f"/agents/{agent}/site", json={"site_id": globex.ids["site_id"]})
    assert moved.is_success, moved.text
    await http.put(f"/agents/{agent}/name", json={"name": "globex-name"})
    answers = []
    for tenant in (acme, globex):
        client = api.client(await api.key_that_may(grants=[tenant.grant]))
        answers.append((await client.get("/diff", params={"earlier": earlier, "what": "agents"})).json()["items"])
    (gone,), (new,) = answers
    assert (gone["change"], new["change"]) == ("gone", "new")
    assert "globex" not in str(gone)
    assert "acme-secret" not in str(new)
    assert acme.ids["client_id"] not in str(new)
