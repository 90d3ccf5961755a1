"""A part of the history for an auditor: on record, proven event by event, and verified by itself."""

import asyncio
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
from typer.testing import CliRunner

from command_bus.event_log import Selection
from gateways.cli.program import make_app
from gateways.rest import extracts
from schema.audit.checkpoints import AuditError, BadCheckpointError
from schema.audit.extracts import verify_csv, verify_extract
from tests.audit.chaining import signed
from tests.rest.harness import Api, Fleet, made

NASTY = '"><script>alert(1)</script>\u202e=cmd'


async def extract(http: Any, form: str = "ndjson", **asked: Any) -> tuple[str, bytes]:
    made_ = await made(http, "/audit/extracts", {"format": form} | asked)
    response = await http.get(f"/audit/extracts/{made_['id']}")
    assert response.status_code == 200, response.text
    return made_["id"], response.content


@pytest.fixture
async def busy(fleet: Fleet, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An agent with a story under checkpoints, and some of it beyond; read in pages of three."""
    monkeypatch.setattr(extracts, "PAGE", 3)
    agent = await fleet.agent()
    for number in range(4):
        await fleet.command(agent, reason=f"{NASTY}{number}")
    await asyncio.to_thread(signed, postgres_url)
    for _ in range(3):
        await fleet.command(agent)
    return agent


async def test_each_event_is_proven_and_the_file_holds_by_itself(api: Api, busy: str, tmp_path: Path) -> None:
    """All that was asked for is in it, in order; what is signed is proven, the rest is said not to be."""
    http = api.client()
    events = await api.log.read(Selection(agent_id=UUID(busy)))
    _, content = await extract(http, agent_id=busy)
    file = tmp_path / "part.ndjson"
    file.write_bytes(content)
    found = await asyncio.to_thread(verify_extract, file)
    lines = [json.loads(line) for line in content.splitlines()]
    positions = [line["event"]["position"] for line in lines if line["kind"] == "event"]
    assert positions == [one.position for one in events]
    assert (found.events, found.proven, found.checkpoints) == (len(events), len(events) - 3, 1)
    assert found.keys
    with pytest.raises(AuditError, match="trust"):
        await asyncio.to_thread(verify_extract, file, ["00" * 32])


@pytest.mark.parametrize("page", [1, 3, 1000])
async def test_each_checkpoint_stands_once_before_its_events(
    api: Api, fleet: Fleet, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """However the pages and the checkpoints fall, each event is proven under its own, and only by who is trusted."""
    monkeypatch.setattr(extracts, "PAGE", page)
    agent = await fleet.agent()
    for _ in range(4):
        await fleet.command(agent)
        await fleet.command(agent)
        await asyncio.to_thread(signed, postgres_url)
    await fleet.command(agent)
    _, content = await extract(api.client(), agent_id=agent)
    lines = [json.loads(line) for line in content.splitlines()]
    shown = [line["checkpoint"]["statement"] for line in lines if line["kind"] == "checkpoint"]
    assert len(shown) == len(set(shown)) == 4
    assert [line["proof"] is not None for line in lines if line["kind"] == "event"][-1] is False
    file = tmp_path / "part.ndjson"
    file.write_bytes(content)
    found = await asyncio.to_thread(verify_extract, file)
    assert (found.checkpoints, found.events - found.proven) == (4, 1)
    assert await asyncio.to_thread(verify_extract, file, found.keys) == found


async def test_a_signature_that_is_not_its_signers_does_not_pass(api: Api, busy: str, tmp_path: Path) -> None:
    """Each checkpoint's signature is verified, once, before any event that is under it."""
    _, content = await extract(api.client(), agent_id=busy)
    at = content.index(b'"signature":"') + len(b'"signature":"')
    file = tmp_path / "part.ndjson"
    file.write_bytes(content[:at] + (b"0" if content[at : at + 1] != b"0" else b"1") + content[at + 1 :])
    with pytest.raises(BadCheckpointError):
        await asyncio.to_thread(verify_extract, file)


@pytest.mark.parametrize("what", ["body", "actor", "taken out", "cut", "swapped", "slipped in"])
async def test_whatever_is_changed_is_found(api: Api, busy: str, tmp_path: Path, what: str) -> None:
    """A changed word, a line taken out, doubled, cut off or put elsewhere: none of it verifies."""
    _, content = await extract(api.client(), agent_id=busy)
    lines = content.splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"kind":"event"' in line) + 1
    match what:
        case "body":
            lines[at] = lines[at].replace(b"script", b"Script", 1)
        case "actor":
            lines[at] = lines[at].replace(b'"actor":"', b'"actor":"x', 1)
        case "taken out":
            del lines[at]
        case "cut":
            lines.pop()
        case "swapped":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        case "slipped in":
            lines.insert(at, lines[at])
    assert lines != content.splitlines(keepends=True)
    file = tmp_path / "part.ndjson"
    file.write_bytes(b"".join(lines))
    with pytest.raises(AuditError):
        await asyncio.to_thread(verify_extract, file)


async def test_a_table_is_held_against_its_proofs(api: Api, busy: str, tmp_path: Path) -> None:
    """A CSV and the lines of the same extract agree, and a changed cell does not pass."""
    http = api.client()
    extract_id, table = await extract(http, "csv", agent_id=busy)
    proofs = (await http.get(f"/audit/extracts/{extract_id}", params={"format": "ndjson"})).content
    csv_file, proof_file = tmp_path / "part.csv", tmp_path / "part.csv.proofs"
    csv_file.write_bytes(table)
    proof_file.write_bytes(proofs)
    assert (await asyncio.to_thread(verify_csv, csv_file, proof_file, text_of=extracts.sentence_of_line)).events == 8
    for changed in (
        table.replace(b"ping", b"pong", 1),
        table[: table.rindex(b"\r\n", 0, -2) + 2],
        table + table[-200:],
    ):
        csv_file.write_bytes(changed)
        with pytest.raises(AuditError):
            await asyncio.to_thread(verify_csv, csv_file, proof_file, text_of=extracts.sentence_of_line)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


async def test_a_report_is_plain_and_harmless(api: Api, busy: str) -> None:
    """It loads nothing, runs nothing, and shows what machines and people wrote as text."""
    _, page = await extract(api.client(), "html", agent_id=busy)
    tags = Tags()
    tags.feed(page.decode())
    assert tags.seen <= {"html", "head", "meta", "title", "style", "body", "h1", "p", "table", "thead", "tbody"} | {
        *("tr", "th", "td", "span"),
    }
    assert tags.attributes <= {"lang", "charset", "class"}
    assert b"&lt;script&gt;" in page
    assert b"not yet" in page
    assert b"8 events, 5 of them" in page


async def test_it_is_on_record_and_nobody_elses(api: Api, fleet: Fleet, busy: str) -> None:
    """Who took what is in the log; only they fetch it, and of what they may see alone."""
    http = api.client()
    extract_id, _ = await extract(http, agent_id=busy, types=["CommandQueued"])
    (event,) = (await http.get("/events", params={"stream_id": extract_id})).json()["items"]
    assert event["type"] == "HistoryExtracted"
    assert event["data"]["types"] == ["CommandQueued"]
    other = await Fleet.make(api, api.client(), "Globex")
    grant = {"role": "administrator", "clients": [other.client_id]}
    stranger = api.client(await api.key_that_may(grants=[grant]))
    assert (await stranger.get(f"/audit/extracts/{extract_id}")).status_code == 404
    _, theirs = await extract(stranger)
    assert busy.encode() not in theirs
    assert other.client_id.encode() in theirs
    before = await api.log.head()
    for asked in ({"client_id": fleet.client_id}, {"agent_id": busy}):
        assert (await stranger.post("/audit/extracts", json=asked)).status_code == 404
    assert await api.done_since(before) == []


async def test_the_command_line_takes_out_and_verifies(
    api: Api, busy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`audit extract` writes a file and its proofs; `audit verify --extract` needs neither Fleetlog nor database."""
    del busy
    monkeypatch.setenv("FLEETLOG_URL", api.url)
    monkeypatch.setenv("FLEETLOG_API_KEY", api.admin_key)
    app: typer.Typer = make_app()

    async def ok(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    for name in ("part.ndjson", "part.csv", "part.html"):
        assert "written" in await ok("audit", "extract", str(tmp_path / name))
    monkeypatch.setenv("FLEETLOG_URL", "http://127.0.0.1:1")
    for name in ("part.ndjson", "part.csv"):
        assert "vouch" in await ok("audit", "verify", "--extract", str(tmp_path / name))
    (tmp_path / "part.csv").write_bytes(b"position\r\n")
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["audit", "verify", "--extract", str(tmp_path / "part.csv")]
    )
    assert result.exit_code == 2
