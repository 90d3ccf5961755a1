"""A retired machine and a disabled user are erased: on record, once, for good, and the chain still holds."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from command_bus.credential_store import sweep_credentials
from command_bus.handlers.enrollments import EnrollmentExpiry
from command_bus.ids import new_id, utc_now
from command_bus.keystore import CREDENTIALS, Keystore
from command_bus.master_keys import NO_KEYS
from command_bus.postgres import app_conninfo
from domain.names import Name
from domain.personal import ERASED
from gateways.rest import extracts
from projections.catalog import names
from projections.enrollments import due
from projections.verify import verify
from schema.audit.extracts import BadExtractError, verify_csv, verify_extract
from tests.audit.chaining import connect, signed, verified
from tests.projections.test_erasures import texts_of
from tests.rest.gains import ASKS, waits
from tests.rest.harness import Api, Fleet, made
from tests.rest.people import Person

NAME = "corvus-9d1c"


async def extract(http: Any, form: str, path: Path, **asked: Any) -> str:
    extract_id = (await made(http, "/audit/extracts", {"format": form} | asked))["id"]
    content = (await http.get(f"/audit/extracts/{extract_id}")).content
    await asyncio.to_thread(path.write_bytes, content)
    return str(extract_id)


async def test_an_agent_is_erased(api: Api, fleet: Fleet, postgres_url: str, tmp_path: Path) -> None:
    """Nobody reads again what it told, its story stays, and every proof and verification holds."""
    http = api.client()
    agent_id = await fleet.agent(hostname=NAME)
    await made(http, "/fields", {"name": "seat", "terms": {"kind": "text", "on": ["agent"]}})
    assert (await http.patch(f"/agents/{agent_id}/fields", json={"values": {"seat": NAME}})).is_success
    refused = await http.post(f"/agents/{agent_id}/erase", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_not_retired")
    await http.post(f"/agents/{agent_id}/retire", json={})
    await asyncio.to_thread(signed, postgres_url)

    done = await http.post(f"/agents/{agent_id}/erase", json={"reason": "asked for"})
    assert done.status_code == 200, done.text
    assert done.json()["withheld"] == 0
    wait = {"wait_position": done.json()["position"]}
    shown = (await http.get(f"/agents/{agent_id}", params=wait)).json()
    assert (shown["name"], shown["hostname"], shown["facts"]) == (ERASED, ERASED, {ERASED: ERASED})
    story = (await http.get(f"/agents/{agent_id}/timeline")).json()["items"]
    assert NAME not in str(story)
    assert "Agent enrolled from [erased] (linux, x86_64)." in [one["text"] for one in story]
    assert [one["type"] for one in story][:2] == ["SubjectErased", "FieldsFilled"]
    again = await http.post(f"/agents/{agent_id}/erase", json={})
    assert (again.status_code, again.json()["code"]) == (409, "erased")
    filled = await http.patch(f"/agents/{agent_id}/fields", json={"values": {"seat": NAME}})
    assert (filled.status_code, filled.json()["code"]) == (409, "erased")

    assert [table for table, text in texts_of(postgres_url) if NAME in text] == []
    for name in names():
        found = await asyncio.to_thread(verify, app_conninfo(postgres_url), name)
        assert found.ok, found.differences
    await asyncio.to_thread(signed, postgres_url)
    assert (await asyncio.to_thread(lambda: _verified(postgres_url))).finding is None
    lines, table = tmp_path / "part.ndjson", tmp_path / "part.csv"
    await extract(http, "ndjson", lines, agent_id=agent_id)
    proven = await asyncio.to_thread(verify_extract, lines)
    assert proven.proven == proven.events > 0
    extract_id = await extract(http, "csv", table, agent_id=agent_id)
    proofs = (await http.get(f"/audit/extracts/{extract_id}", params={"format": "ndjson"})).content
    (tmp_path / "part.csv.proofs").write_bytes(proofs)
    assert "enrolled from [erased]" in table.read_text()
    text_of = extracts.sentence_of_line
    assert (await asyncio.to_thread(verify_csv, table, tmp_path / "part.csv.proofs", text_of=text_of)).events


def _verified(url: str) -> Any:
    with connect(url) as connection, connection.transaction():
        return verified(connection)


async def test_a_machine_that_was_not_let_in_is_erased(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """By the id of its enrollment, once nobody can let it in any more; it is no agent, before and after."""
    http = api.client()
    token = await made(http, "/enrollment-tokens", {"site_id": fleet.site_id, "max_uses": 9} | ASKS)

    async def erased(enrollment_id: str) -> tuple[int, str]:
        answer = await http.post(f"/enrollments/{enrollment_id}/erase", json={"reason": "asked for"})
        return answer.status_code, answer.json().get("code", "")

    refused, let_in, late = [await waits(api, token["token"], name) for name in (NAME, "guest", f"{NAME}-late")]
    assert await erased(refused) == (409, "enrollment_open")
    await made(http, "/enrollments/refuse", {"enrollments": [refused]})
    await made(http, "/enrollments/approve", {"enrollments": [let_in]})
    await made(http, f"/enrollment-tokens/{token['id']}/revoke", {})

    async def found(now: datetime, limit: int) -> list[UUID]:
        async with api.pool.connection() as connection:
            return await due(connection, now, limit)

    await api.waiter.wait(await api.log.head(), ["enrollments", "tokens"], 10.0)
    assert await EnrollmentExpiry(api.log, found, new_id).expire_due(utc_now()) == 1
    assert await erased(let_in) == (409, "enrollment_open")
    for one in (refused, late):
        assert await erased(one) == (200, "")
        assert await erased(one) == (409, "erased")
        position = await api.log.head()
        shown = (await http.get(f"/enrollments/{one}", params={"wait_position": position})).json()
        assert (shown["hostname"], shown["address"]) == (ERASED, ERASED)
        assert (await http.get(f"/agents/{shown['agent_id']}")).status_code == 404
    assert [table for table, text in texts_of(postgres_url) if NAME in text] == []
    for name in names():
        held = await asyncio.to_thread(verify, app_conninfo(postgres_url), name)
        assert held.ok, held.differences
    await asyncio.to_thread(signed, postgres_url)
    assert (await asyncio.to_thread(lambda: _verified(postgres_url))).finding is None


async def test_a_table_tells_names_and_is_held_against_its_proofs(
    api: Api, fleet: Fleet, postgres_url: str, tmp_path: Path
) -> None:
    """Before it is erased a table says who it was; the words around what is sealed cannot be changed."""
    http = api.client()
    agent_id = await fleet.agent(hostname=NAME)
    await asyncio.to_thread(signed, postgres_url)
    table, proofs = tmp_path / "part.csv", tmp_path / "part.csv.proofs"
    extract_id = await extract(http, "csv", table, agent_id=agent_id)
    proofs.write_bytes((await http.get(f"/audit/extracts/{extract_id}", params={"format": "ndjson"})).content)
    assert NAME.encode() not in proofs.read_bytes()
    told = table.read_text()
    assert f"enrolled from {NAME}" in told
    assert (await asyncio.to_thread(verify_csv, table, proofs, text_of=extracts.sentence_of_line)).events
    table.write_text(told.replace("Agent enrolled", "Agent retired"))
    with pytest.raises(BadExtractError):
        await asyncio.to_thread(verify_csv, table, proofs, text_of=extracts.sentence_of_line)


async def test_events_from_before_are_withheld_and_counted(
    api: Api, fleet: Fleet, postgres_url: str, tmp_path: Path
) -> None:
    """What the log holds in the clear is shown to nobody, is in no extract, and the answer says how much there is."""
    http = api.client()
    agent_id = await fleet.agent(hostname="as-it-is")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SET session_replication_role TO replica")
        body = admin.execute(
            "UPDATE fleetlog.events SET state = convert_to(regexp_replace(convert_from(state, 'UTF8'),"
            " 'sealed:1:[^\"]*', %s), 'UTF8') WHERE topic = 'AgentEnrolled/1' RETURNING state",
            [NAME],
        ).fetchone()
    assert body is not None
    assert NAME.encode() in body[0]
    await asyncio.to_thread(signed, postgres_url)
    await http.post(f"/agents/{agent_id}/retire", json={})
    done = (await http.post(f"/agents/{agent_id}/erase", json={})).json()
    assert done["withheld"] == 1
    events = (await http.get("/events", params={"agent_id": agent_id})).json()["items"]
    assert NAME not in str(events)
    position = events[0]["position"]
    proof = await http.get(f"/audit/events/{position}/proof")
    assert proof.status_code == 200
    assert NAME not in proof.text
    lines = tmp_path / "part.ndjson"
    await extract(http, "ndjson", lines, agent_id=agent_id)
    assert NAME not in lines.read_text()
    assert (await asyncio.to_thread(verify_extract, lines)).events == len(events)


async def test_a_user_is_erased(api: Api, postgres_url: str) -> None:
    """Name, mail address and where they came from are gone; the name is free; what they did is still theirs."""
    http = api.client()
    person = await Person.ready(api, NAME)
    await http.patch(f"/users/{person.user_id}", json={"email": f"{NAME}@example.com"})
    await person.try_to_log_in(code="000000")
    refused = await http.post(f"/users/{person.user_id}/erase", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "user_not_disabled")
    taken = await http.post("/users", json={"name": NAME.upper()})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    await http.post(f"/users/{person.user_id}/disable", json={})
    kept = credentials(postgres_url)
    assert len(kept) == 3
    done = await http.post(f"/users/{person.user_id}/erase", json={})
    assert done.status_code == 200, done.text
    shown = (await http.get(f"/users/{person.user_id}", params={"wait_position": done.json()["position"]})).json()
    assert (shown["name"], shown["email"], shown["disabled"]) == (ERASED, "", True)
    for path, code in (("enable", "erased"), ("erase", "erased")):
        again = await http.post(f"/users/{person.user_id}/{path}", json={})
        assert (again.status_code, again.json()["code"]) == (409, code)
    assert [table for table, text in texts_of(postgres_url) if NAME in text] == []
    for name in names():
        found = await asyncio.to_thread(verify, app_conninfo(postgres_url), name)
        assert found.ok, found.differences
    assert (await http.post("/users", json={"name": NAME})).status_code == 201
    assert credentials(postgres_url) == []
    # As if the process had died before it dropped them.
    with psycopg.connect(postgres_url, autocommit=True) as admin, admin.cursor() as cursor:
        cursor.executemany("INSERT INTO fleetlog.credential_values VALUES (%s, %s, %s, %s, %s, %s)", kept)
    assert await sweep_credentials(api.log, Keystore(api.pool, NO_KEYS, CREDENTIALS), timedelta(0)) == 3
    assert credentials(postgres_url) == []


def credentials(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT * FROM fleetlog.credential_values").fetchall()


async def test_names_claimed_before_go_on_working(api: Api, postgres_url: str) -> None:
    """A claim under the plain hash of a name keeps others out, lets its holder log in, and goes with the next name."""
    http = api.client()
    person = await Person.ready(api, NAME)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SET session_replication_role TO replica")
        admin.execute(
            "UPDATE fleetlog.events SET originator_id = %s WHERE topic = 'NameClaimed/1' AND state::text IN"
            " (SELECT state::text FROM fleetlog.events WHERE convert_from(state, 'UTF8') LIKE %s)",
            [Name.id_of("user", None, NAME), f'%"holder":"{person.user_id}"%'],
        )
    assert (await http.post("/users", json={"name": NAME})).json()["code"] == "name_taken"
    assert (await person.try_to_log_in()).status_code == 201
    assert (await http.patch(f"/users/{person.user_id}", json={"name": "Somebody"})).is_success
    assert (await http.post("/users", json={"name": NAME})).status_code == 201


async def test_only_whoever_may(api: Api, fleet: Fleet) -> None:
    """It needs a permission of its own, over everything."""
    agent_id = await fleet.agent()
    http = api.client()
    await http.post(f"/agents/{agent_id}/retire", json={})
    here = [{"role": "administrator", "clients": [fleet.client_id]}]
    for grants in (here, [{"role": "operator", "everything": True}]):
        refused = await api.client(await api.key_that_may(grants=grants)).post(f"/agents/{agent_id}/erase", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
