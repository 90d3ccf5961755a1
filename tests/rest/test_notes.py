"""Notes on machines: written for all who see them, personal data of the machine, and part of its story."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import notes as domain
from domain.errors import NotFoundError
from domain.notes import AgentNotes, notes_stream
from domain.personal import ERASED
from domain.roles import Role
from tests.projections.test_erasures import texts_of
from tests.rest.harness import Api, Fleet, made

SAID = "the fan of corvus-1 rattles"


async def notes(http: Any, agent_id: str, **query: Any) -> list[Any]:
    items: list[Any] = (await http.get(f"/agents/{agent_id}/notes", params=query)).json()["items"]
    return items


async def test_a_note_is_written_changed_and_removed(api: Api, fleet: Fleet) -> None:
    """The newest stands first, who wrote and who changed it is beside it, and each step is in the machine's story."""
    agent_id = await fleet.agent("web-01")
    http = api.client()
    assert await notes(http, agent_id) == []
    first = await made(http, f"/agents/{agent_id}/notes", {"text": f"  {SAID}\n"})
    second = await made(http, f"/agents/{agent_id}/notes", {"text": "line one\nline two"})
    told = await notes(http, agent_id)
    assert [(one["id"], one["text"]) for one in told] == [(second["id"], "line one\nline two"), (first["id"], SAID)]
    assert told[0]["actor"].startswith("key:")
    assert told[0]["changed_by"] is None
    other = api.client(await api.key(Role.ADMIN))
    changed = await other.put(f"/agents/{agent_id}/notes/{first['id']}", json={"text": "it is quiet again"})
    assert changed.is_success
    newest, oldest = await notes(http, agent_id)
    assert (oldest["text"], oldest["actor"]) == ("it is quiet again", newest["actor"])
    assert oldest["changed_by"] not in (None, oldest["actor"])
    assert oldest["changed_at"] > oldest["written_at"]
    # As of before it was changed, it says what it said then.
    assert [one["text"] for one in await notes(http, agent_id, at=second["position"])] == ["line one\nline two", SAID]
    assert (await http.post(f"/agents/{agent_id}/notes/{second['id']}/remove", json={})).is_success
    assert [one["id"] for one in await notes(http, agent_id)] == [first["id"]]
    gone = await http.put(f"/agents/{agent_id}/notes/{second['id']}", json={"text": "x"})
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    empty = await http.post(f"/agents/{agent_id}/notes", json={"text": " \n "})
    assert (empty.status_code, empty.json()["code"]) == (422, "invalid_value")
    story = [one["text"] for one in (await http.get(f"/agents/{agent_id}/timeline")).json()["items"]][:4]
    assert story == ["Note removed.", "Note: it is quiet again", "Note: line one line two", f"Note: {SAID}"]


async def test_notes_are_sealed_and_erased_with_the_machine(api: Api, fleet: Fleet, postgres_url: str) -> None:
    """No table holds what they say in the clear, and nobody reads it again once the machine is erased."""
    agent_id = await fleet.agent("web-01")
    http = api.client()
    note = await made(http, f"/agents/{agent_id}/notes", {"text": SAID})
    assert [table for table, text in texts_of(postgres_url) if SAID in text] == []
    assert (await http.post(f"/agents/{agent_id}/retire", json={})).is_success
    assert (await http.put(f"/agents/{agent_id}/notes/{note['id']}", json={"text": SAID + "!"})).is_success
    assert (await http.post(f"/agents/{agent_id}/erase", json={})).is_success
    assert [one["text"] for one in await notes(http, agent_id)] == [ERASED]
    assert SAID not in (await http.get(f"/agents/{agent_id}/timeline")).text
    refused = await http.post(f"/agents/{agent_id}/notes", json={"text": SAID})
    assert (refused.status_code, refused.json()["code"]) == (409, "erased")


async def test_who_moved_leaves_its_notes_with_the_client_it_was_of(api: Api, fleet: Fleet) -> None:
    """Invariant 8: what one client's people wrote, another's neither read, change nor remove."""
    agent_id = await fleet.agent("web-01")
    note = await made(fleet.http, f"/agents/{agent_id}/notes", {"text": SAID})
    other = await Fleet.make(api, api.client(), "Other")
    theirs = api.client(await api.key(Role.ADMIN, [other.client_id]))
    assert (await theirs.get(f"/agents/{agent_id}/notes")).status_code == 404
    assert (await theirs.post(f"/agents/{agent_id}/notes", json={"text": "x"})).status_code == 404
    assert (await other.http.put(f"/agents/{agent_id}/site", json={"site_id": other.site_id})).is_success
    assert await notes(theirs, agent_id) == []
    await made(theirs, f"/agents/{agent_id}/notes", {"text": "ours now"})
    assert [one["text"] for one in await notes(theirs, agent_id)] == ["ours now"]
    for method, path in (("PUT", ""), ("POST", "/remove")):
        body = {"text": "x"} if method == "PUT" else {}
        refused = await theirs.request(method, f"/agents/{agent_id}/notes/{note['id']}{path}", json=body)
        assert refused.status_code == 404
    assert [one["text"] for one in await notes(api.client(), agent_id)] == ["ours now", SAID]


async def test_of_two_at_once_none_is_lost(api: Api, fleet: Fleet) -> None:
    """Whoever was slower decides again, and both notes are there."""
    agent_id = await fleet.agent("web-01")
    http = api.client()
    await asyncio.gather(*(made(http, f"/agents/{agent_id}/notes", {"text": f"n{number}"}) for number in range(8)))
    assert {one["text"] for one in await notes(http, agent_id)} == {f"n{number}" for number in range(8)}


async def test_a_machine_has_so_many_notes_and_no_more(api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read all at once, so that they are bounded; whoever removes one may write another."""
    monkeypatch.setattr(domain, "MAX_NOTES", 2)
    agent_id = await fleet.agent("web-01")
    http = api.client()
    first, _ = [await made(http, f"/agents/{agent_id}/notes", {"text": text}) for text in ("a", "b")]
    refused = await http.post(f"/agents/{agent_id}/notes", json={"text": "c"})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_notes")
    await http.post(f"/agents/{agent_id}/notes/{first['id']}/remove", json={})
    assert (await http.post(f"/agents/{agent_id}/notes", json={"text": "c"})).is_success


Step = st.tuples(
    st.sampled_from(["write", "change", "remove"]), st.integers(0, 5), st.text("abc", min_size=1, max_size=3)
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(Step, max_size=20))
def test_the_notes_are_those_that_were_written_and_not_removed(steps: list[tuple[str, int, str]]) -> None:
    """Whatever is asked in whatever order, replaying the stream gives what a plain list of them gives."""
    stream = AgentNotes(notes_stream(UUID(int=7)))
    expected: dict[Any, str] = {}
    events = []
    for what, number, text in steps:
        note_id = notes_stream(UUID(int=number))
        known = note_id in expected
        if what == "write" and known:
            continue
        try:
            change = {
                "write": lambda: stream.write(note_id, text),  # noqa: B023 - called at once
                "change": lambda: stream.change(note_id, text),  # noqa: B023
                "remove": lambda: stream.remove(note_id),  # noqa: B023
            }[what]()
        except NotFoundError:
            assert not known
            continue
        assert known or what == "write"
        events.append(change.event)
        if what == "remove":
            del expected[note_id]
        else:
            expected[note_id] = text
    assert AgentNotes.load(stream.stream_id, events).note_ids == set(expected)
