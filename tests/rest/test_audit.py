"""The audit chain over HTTP and from the terminal: what is shown is what holds, and to whom it may be shown."""

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from command_bus.ids import new_id
from domain.roles import Role
from gateways.cli.program import run
from gateways.settings import load_settings
from gateways.status import collect
from schema.audit.proofs import check_proof, decode_proof
from tests.audit.chaining import connect, signed
from tests.rest.harness import Api, Fleet


async def test_head_checkpoints_and_proofs(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """The head says how far the chain is; checkpoints come in pages; each event has a proof that holds by itself."""
    client = api.client()
    assert (await client.get("/audit/head")).json()["checkpoint"] == 0
    assert (await client.get("/audit/checkpoints")).json() == {"items": [], "next": None}
    last = await asyncio.to_thread(signed, postgres_url)
    head = (await client.get("/audit/head")).json()
    assert (head["position"], head["lag"], head["checkpoint"], head["checkpoint_position"]) == (last, 0, 1, last)
    for number in range(2):
        await client.post("/clients", json={"name": f"Later {number}"})
        refused = await client.get(f"/audit/events/{await api.log.head()}/proof")
        assert (refused.status_code, refused.json()["code"]) == (409, "not_checkpointed")
        last = await asyncio.to_thread(signed, postgres_url)
    page = (await client.get("/audit/checkpoints", params={"limit": 2})).json()
    assert [one["number"] for one in page["items"]] == [3, 2]
    page = (await client.get("/audit/checkpoints", params={"limit": 2, "cursor": page["next"]})).json()
    assert [one["number"] for one in page["items"]] == [1]
    assert (await client.get("/audit/checkpoints/1")).json() == page["items"][0]
    for event in (await client.get("/events", params={"limit": 500})).json()["items"]:
        answer = await client.get(f"/audit/events/{event['position']}/proof")
        proof = decode_proof(answer.content)
        assert check_proof(proof, [head["key"]]).last_position <= last
        assert (proof.event.position, proof.event.actor) == (event["position"], event["actor"])
        assert proof.body is not None
        # What is personal is sealed where it is kept.
        sealed = {"name", "email"} if event["type"] in ("UserCreated", "NameClaimed") else set()
        body = {name: value for name, value in json.loads(proof.body).items() if name not in sealed}
        assert body == {name: event["data"][name] for name in body}
    bare = decode_proof((await client.get("/audit/events/1/proof", params={"body": "false"})).content)
    assert bare.body is None
    assert check_proof(bare)
    for missing in (f"/audit/events/{last + 1}/proof", "/audit/events/0/proof", f"/audit/events/{2**60}/proof",
                    "/audit/checkpoints/4", "/audit/checkpoints/x"):  # fmt: skip
        assert (await client.get(missing)).status_code == 404
    assert (await client.get("/audit/checkpoints", params={"cursor": "x"})).status_code == 400
    assert fleet


async def test_a_tenant_proves_its_own_events_alone(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """A proof shows an event, so another tenant's is as unknown as what never was (invariant 8)."""
    other = await Fleet.make(api, api.client(), "Other")
    scoped = api.client(await api.key(Role.AUDITOR, [fleet.client_id]))
    await asyncio.to_thread(signed, postgres_url)
    mine = (await scoped.get("/events", params={"limit": 500})).json()["items"]
    assert mine
    for event in (await api.client().get("/events", params={"limit": 500})).json()["items"]:
        status = (await scoped.get(f"/audit/events/{event['position']}/proof")).status_code
        assert status == (200 if event["client_id"] == str(fleet.client_id) else 404)
    assert other.client_id != fleet.client_id


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(["audit", *arguments]) == code
    return capsys.readouterr().out


async def test_from_the_terminal(
    api: Api,
    fleet: Fleet,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Prove and check, export and verify, countersign and accept: each from a terminal, and a change is named."""
    monkeypatch.setenv("FLEETLOG_URL", api.url)
    monkeypatch.setenv("FLEETLOG_API_KEY", api.admin_key)
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url)
    last = await asyncio.to_thread(signed, postgres_url)
    await asyncio.to_thread(_at_the_terminal, postgres_url, last, tmp_path, capsys)
    assert fleet


def _at_the_terminal(url: str, last: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str, code: int = 0) -> Any:
        return json.loads(said(capsys, *arguments, "--json", code=code))

    assert told("head")["position"] == last
    assert [one["number"] for one in told("checkpoints")] == [1]
    proof = folder / "proof.json"
    proof.write_text(said(capsys, "prove", str(last)))
    checked = told("check", str(proof))
    assert (checked["event"]["position"], checked["checkpoint"]["number"]) == (last, 1)
    assert "is under checkpoint 1" in said(capsys, "check", str(proof))
    assert run(["audit", "check", str(proof), "--key", "0" * 64]) == 2
    assert "bad_proof" in capsys.readouterr().err
    kept = folder / "00000001.json"
    kept.write_text(said(capsys, "checkpoint", "1"))
    assert said(capsys, "checkpoint", "1", "--statement") == json.loads(kept.read_text())["statement"]
    _countersigned(url, kept, folder, capsys)
    export = folder / "log.ndjson"
    assert told("export", str(export))["events"] == last
    for report in (
        told("verify", "--checkpoint", str(kept)),
        told("verify", "--export", str(export), "--checkpoint", str(kept)),
    ):
        assert (report["finding"], report["events"], report["outside"]) == (None, last, 1)
    assert "are as they were recorded" in said(capsys, "verify")
    assert told("verify", "--since", "1h")["events"] == last
    assert told("verify", "--since", str(last))["events"] == 0
    _changed(url, export, capsys)


def _countersigned(url: str, kept: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from command_bus.audit.keys import load_seed

    key = folder / "auditor.pem"
    with connect(url) as connection:
        load_seed(connection, key)
    sign = ["countersign", str(kept), "--key-file", str(key), "--name"]
    said(capsys, *sign, "Fides Audit", code=0)
    said(capsys, *sign, "fleetlog", code=2)
    accepted = [json.loads(said(capsys, "accept", str(kept), "--json"))["added"] for _ in range(2)]
    assert accepted == [1, 0]
    names = [one["name"] for one in json.loads(said(capsys, "checkpoint", "1"))["signatures"]]
    assert names == ["fleetlog", "Fides Audit"]
    forged = folder / "forged.json"
    document = json.loads(kept.read_text())
    document["signatures"][1]["signature"] = "00" * 64
    forged.write_text(json.dumps(document))
    assert run(["audit", "accept", str(forged)]) == 2
    assert "bad_checkpoint" in capsys.readouterr().err


def _changed(url: str, export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = export.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"ClientCreated/1"' in line)
    position = json.loads(lines[at])["event"]["position"]
    bent = {
        "altered": [*lines[:at], lines[at].replace(b"Acme", b"Acne"), *lines[at + 1 :]],
        "missing": lines[:at] + lines[at + 1 :],
        "reordered": [
            *lines[:at],
            lines[at].replace(b'"position":%d' % position, b'"position":%d' % (position + 900)),
            *lines[at + 1 :],
        ],
    }
    for kind, content in bent.items():
        export.write_bytes(b"".join(content))
        found = json.loads(said(capsys, "verify", "--export", str(export), "--json", code=1))["finding"]
        assert (found["kind"], found["position"]) == (kind, position)
    export.write_bytes(b"".join(lines[:-1]))
    assert run(["audit", "verify", "--export", str(export)]) == 2
    export.write_bytes(b"{}")
    assert run(["audit", "verify", "--export", str(export)]) == 2
    assert "bad_export" in capsys.readouterr().err
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("SET session_replication_role TO replica")
        owner.execute("UPDATE fleetlog.events SET actor = 'nobody' WHERE notification_id = %s", [position])
    assert run(["audit", "verify"]) == 1
    assert f"history_changed: altered at position {position}" in capsys.readouterr().err


async def test_status_tells_how_far_the_chain_is(
    api: Api, fleet: Fleet, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lag is shown; what waits for long and does not move is told as a fault."""
    for name, value in (("POSTGRES", postgres_url), ("NATS", "nats://127.0.0.1:1"), ("REDIS", "redis://127.0.0.1:1")):
        monkeypatch.setenv(f"FLEETLOG_{name}_URL", value)
    settings = load_settings()
    last = await asyncio.to_thread(signed, postgres_url)
    chain = (await collect(settings)).chain
    assert chain is not None
    assert (chain.ok, chain.position, chain.lag, chain.checkpoint) == (True, last, 0, 1)
    await api.client().post("/clients", json={"name": f"Later {new_id()}"})
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute("SET session_replication_role TO replica")
        owner.execute("UPDATE fleetlog.events SET recorded_at = recorded_at - interval '1 hour'")
        owner.execute("UPDATE fleetlog.chain_pages SET chained_at = chained_at - interval '1 hour'")
    found = await collect(settings)
    assert found.chain is not None
    assert (found.chain.status, found.chain.lag) == ("behind", await api.log.head() - last)
    assert any("audit chain" in fault for fault in found.faults())
    assert fleet
