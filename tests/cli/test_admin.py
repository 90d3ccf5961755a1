"""Clients, sites, agents, tokens and keys from the command line, on a real API."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from command_bus.ids import utc_now
from tests.cli.terminal import Terminal
from tests.rest.gains import waits
from tests.rest.harness import Api, Fleet
from tests.rest.people import Person


async def test_clients_and_sites(terminal: Terminal) -> None:
    """They are added, renamed and listed, by name as well as by id."""
    added = await terminal.json("clients", "add", "Globex")
    await terminal.ok("clients", "rename", added["id"], "Globex Corp")
    assert [client["name"] for client in await terminal.json("clients")] == ["Globex Corp"]
    site = await terminal.json("sites", "add", "globex corp", "Berlin")
    await terminal.ok("sites", "rename", "Globex Corp/Berlin", "Hamburg")
    assert (await terminal.ok("sites", "--client", "Globex Corp")).splitlines() == [
        "name\tclient\tid",
        f"Hamburg\tGlobex Corp\t{site['id']}",
    ]


async def test_how_long_things_are_kept_is_shown_and_set(terminal: Terminal) -> None:
    """What is left out stays as it was; what is no number is refused before anything is asked."""
    rows = (await terminal.ok("retention")).splitlines()[1:]
    assert {row.split("\t")[1] for row in rows} == {"never"}
    await terminal.ok("retention", "set", "--output-keep-days", "30", "--archive-after-days", "90")
    await terminal.ok("retention", "set", "--archive-after-days", "never", "--reason", "room enough")
    held = {row["what"]: (row["kept"], row["set"]) for row in await terminal.json("retention")}
    assert held["output_keep_days"] == (30, "on record")
    assert held["archive_after_days"] == (None, "on record")
    assert "outputs kept 30 days: room enough" in await terminal.ok("events", "--type", "RetentionSet")
    for wrong in (("--output-keep-days", "some"), ()):
        assert await terminal.refused("retention", "set", *wrong) == "bad_value"


async def test_a_name_in_use_is_refused_in_the_apis_words(terminal: Terminal) -> None:
    """A problem document reaches the reader as one red line with its code."""
    await terminal.ok("clients", "add", "Acme")
    assert await terminal.refused("clients", "add", "ACME") == "name_taken"


async def test_agents_are_listed_and_filtered(terminal: Terminal, fleet: Fleet) -> None:
    """Every filter of the list narrows it."""
    await fleet.agent("web-07")
    other = await fleet.agent("db-01", "windows")
    await terminal.ok("agents", "tag", "db-01", "sql", "prod")
    assert [agent["name"] for agent in await terminal.json("agents")] == ["db-01", "web-07"]
    for filter_ in (("--tag", "sql"), ("--platform", "windows"), ("--client", "Acme", "--tag", "prod")):
        assert [agent["id"] for agent in await terminal.json("agents", *filter_)] == [other]
    assert [agent["id"] for agent in await terminal.json("agents", "list", "db")] == [other]
    assert await terminal.json("agents", "--online") == []
    assert "offline" in await terminal.ok("agents")


async def test_an_agents_life(terminal: Terminal, fleet: Fleet) -> None:
    """Rename, tag, move, suspend, resume, retire: each shows."""
    agent = await fleet.agent("web-07")
    await terminal.ok("sites", "add", "Acme", "Attic")
    for line in (
        ("agents", "rename", "web-07", "front"),
        ("agents", "tag", "front", "old", "blue"),
        ("agents", "tag", "front", "+new"),
        ("agents", "tag", "front", "--", "-old"),
        ("agents", "move", "front", "Acme/Attic"),
        ("agents", "suspend", "front", "--reason", "audit"),
    ):
        await terminal.ok(*line)
    shown = await terminal.json("agents", "show", "front")
    assert (shown["name"], shown["hostname"], shown["tags"]) == ("front", "web-07", ["blue", "new"])
    assert (shown["site_name"], shown["state"]) == ("Attic", "suspended")
    await terminal.ok("agents", "resume", agent)
    await terminal.ok("agents", "retire", agent[-12:])
    assert "retired" in await terminal.ok("agents", "show", "web-07")
    assert await terminal.refused("agents", "suspend", "front") == "agent_retired"


async def test_who_is_gone_is_erased(terminal: Terminal, fleet: Fleet) -> None:
    """A machine once it is retired, a user once they are disabled; each once, and it says that it is for good."""
    agent = await fleet.agent("corvus-1")
    user = (await terminal.json("users", "add", "Corvus", "--email", "corvus@example.com"))["id"]
    assert await terminal.refused("agents", "erase", "corvus-1") == "agent_not_retired"
    assert await terminal.refused("users", "erase", "Corvus") == "user_not_disabled"
    await terminal.ok("agents", "retire", "corvus-1")
    await terminal.ok("users", "disable", "Corvus")
    erased = await terminal.ok("agents", "erase", "corvus-1", "--reason", "request 4711")
    assert erased.strip() == f"Agent {agent} is erased for good."
    assert await terminal.ok("users", "erase", "Corvus")
    told = (
        await terminal.ok("agents", "show", agent) + await terminal.ok("users") + await terminal.ok("timeline", agent)
    )
    assert "[erased]" in told
    assert "corvus" not in told.casefold()
    assert (
        await terminal.refused("agents", "erase", agent) == await terminal.refused("users", "erase", user) == "erased"
    )


async def test_a_name_that_two_agents_share_is_not_guessed(terminal: Terminal, fleet: Fleet) -> None:
    """Where more than one is meant, nothing is done and the ids are shown."""
    await fleet.agent("web-07")
    await fleet.agent("web-07")
    assert await terminal.refused("agents", "retire", "web-07") == "ambiguous"
    assert await terminal.refused("agents", "show", "web-08") == "not_found"
    assert await terminal.refused("agents", "show", "0198c0de-0000-7000-8000-000000000001") == "not_found"


async def test_a_token_comes_with_the_line_that_enrolls(terminal: Terminal, fleet: Fleet) -> None:
    """The line can be pasted on the machine; the token is listed without its text and can be voided."""
    del fleet
    made = await terminal("tokens", "create", "--uses", "3", "--note", "rack 4")
    assert made.stdout.startswith(f"fleetlog agent enroll {terminal.url} flt_")
    assert "fleetlog up --listen" in made.stderr, "the address is this machine's loopback, and nobody else's"
    (token,) = await terminal.json("tokens")
    assert (token["uses"], token["max_uses"], token["note"]) == (0, 3, "rack 4")
    assert "Main" in await terminal.ok("tokens")
    await terminal.ok("tokens", "revoke", token["id"], "--reason", "leaked")
    assert await terminal.refused("tokens", "revoke", token["id"]) == "token_revoked"
    assert await terminal.refused("tokens", "create", "--site", "Nowhere") == "not_found"
    await terminal.ok("sites", "add", "Acme", "Attic")
    assert await terminal.refused("tokens", "create") == "ambiguous"


async def test_machines_that_wait_are_approved_and_refused(terminal: Terminal, fleet: Fleet, api: Api) -> None:
    """By host name, key or id, one or all; a name that two have is not guessed, and a key that differs stops it."""
    del fleet
    made = await terminal("tokens", "create", "--uses", "9", "--approval", "--wait", "2h", "--note", "rack 4")
    assert "fleetlog agents approve" in made.stderr
    token = made.stdout.split()[4]
    assert await terminal.json("agents", "waiting") == []
    for hostname in ("db-01", "db-01", "db-02", "db-03", "db-04"):
        await waits(api, token, hostname)
    listed = await terminal.json("agents", "waiting")
    assert "5 waiting" in await terminal.ok("tokens")
    assert await terminal.refused("agents", "approve", "db-01") == "ambiguous"
    assert await terminal.refused("agents", "approve", "db-09") == "not_found"
    assert await terminal.refused("agents", "approve", "db-02", "--fingerprint", "sha256:0") == "bad_value"
    assert await terminal.refused("agents", "approve") == "bad_value"
    (second,) = [one for one in listed if one["hostname"] == "db-02"]
    said = await terminal.ok("agents", "approve", "db-02", "--fingerprint", second["fingerprint"], "--reason", "ours")
    assert "192.0.2.7" in said
    newest = listed[0]["fingerprint"]
    await terminal.ok("agents", "refuse", newest)
    assert "is erased for good" in await terminal.ok("agents", "erase-refused", newest, "--reason", "asked for")
    assert await terminal.refused("agents", "erase-refused", newest) == "erased"
    (agent,) = await terminal.json("agents")
    assert (agent["name"], agent["id"]) == ("db-02", second["agent_id"])
    answer = await terminal.json("agents", "approve", "--all", "--token", second["token_id"])
    assert len(answer["agents"]) == 3
    states = [one["state"] for one in await terminal.json("agents", "waiting", "--all")]
    assert sorted(states) == ["approved"] * 4 + ["refused"]


async def test_keys(terminal: Terminal, fleet: Fleet, api: Api) -> None:
    """A key does what its role allows, and nothing once it is void."""
    del fleet
    made = await terminal.json("keys", "create", "auditors", "--role", "auditor", "--client", "Acme")
    auditor = Terminal(api.url, made["key"])
    assert [grant["role"] for grant in (await auditor.json("me"))["grants"]] == ["auditor"]
    assert [client["name"] for client in await auditor.json("clients")] == ["Acme"]
    assert await auditor.refused("clients", "add", "Mine") == "forbidden"
    assert "auditors" in await terminal.ok("keys")
    # A key that turned up somewhere is pasted whole, and only how it begins is looked for.
    for typed in (made["prefix"], made["key"], made["key"][:9]):
        assert made["id"] in [one["id"] for one in await terminal.json("keys", "list", "--prefix", typed)]
    assert await terminal.json("keys", "list", "--prefix", f"flk_{'0' * 32}_{made['key'][-43:]}") == []
    assert await terminal.refused("keys", "list", "--prefix", "auditors") == "bad_value"
    said = await terminal("keys", "revoke", f"flk_{'0' * 32}_{made['key'][-43:]}")
    assert (said.exit_code, made["key"][-43:] in said.output) == (2, False)
    await terminal.ok("keys", "revoke", made["key"])
    async with asyncio.timeout(5):  # each process may remember a key for a second
        while (await auditor("clients")).exit_code == 0:
            pass
    assert await auditor.refused("clients") == "unauthenticated"
    assert await terminal.refused("keys", "create", "x", "--role", "king") == "not_found"


async def test_what_a_key_is_made_with(terminal: Terminal, api: Api) -> None:
    """It ends after a year unless told otherwise, and does what asks for a fresh proof only if made for it."""
    plain = await terminal.json("keys", "create", "ci", "--role", "administrator")
    await terminal.ok("keys", "create", "for ever", "--expires-in", "never", "--unattended")
    listed = {one["name"]: one for one in await terminal.json("keys")}
    ends = datetime.fromisoformat(listed["ci"]["expires_at"])
    assert timedelta(days=364) < ends - utc_now() < timedelta(days=366)
    assert (listed["ci"]["owner"], listed["ci"]["unattended"]) == ("ci", False)
    assert (listed["for ever"]["expires_at"], listed["for ever"]["unattended"]) == (None, True)
    said = await Terminal(api.url, plain["key"], terminal.settle)("keys", "revoke", "ci")
    assert "fresh_proof_needed" in said.stderr
    assert "--unattended" in said.stderr


async def test_people(terminal: Terminal, fleet: Fleet, api: Api) -> None:
    """Users are granted roles over what they look after; their keys follow them."""
    del fleet
    await terminal.ok("roles", "add", "night shift", "--allow", "agents.see", "--allow", "clients.see")
    await terminal.ok("roles", "change", "night shift", "--max-agents", "5")
    assert "agents.see" in await terminal.ok("roles", "show", "night shift")
    assert "agents.see" in await terminal.ok("roles", "permissions")
    await terminal.ok("users", "add", "Ada", "--email", "ada@example.com", "--grant", "night shift@Acme/Main")
    assert "night shift@Acme/Main" in await terminal.ok("users")
    made = await terminal.json("keys", "create", "laptop", "--owner", "Ada")
    ada = Terminal(api.url, made["key"])
    assert [site["name"] for site in await ada.json("sites")] == ["Main"]
    assert "Ada" in await ada.ok("me")
    assert await ada.refused("clients", "add", "Mine") == "forbidden"
    await terminal.ok("users", "grant", "Ada")
    async with asyncio.timeout(5):
        while (await ada("sites")).exit_code == 0:
            pass
    assert await ada.refused("sites") == "forbidden"
    await terminal.ok("users", "change", "Ada", "--name", "Ada L.")
    await terminal.ok("users", "disable", "Ada L.", "--reason", "left")
    async with asyncio.timeout(5):
        while (await ada("me")).exit_code == 0:
            pass
    assert await ada.refused("me") == "unauthenticated"
    await terminal.ok("users", "enable", "Ada L.")
    assert "Ada L." in await terminal.ok("keys")
    await terminal.ok("roles", "retire", "night shift")
    assert await terminal.refused("roles", "retire", "operator") == "built_in_role"


async def test_login_keeps_a_key_that_works(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key from standard input is tried, kept, used by what follows, and forgotten."""
    file = tmp_path / "profile.json"
    monkeypatch.setenv("FLEETLOG_PROFILE", str(file))
    monkeypatch.setenv("FLEETLOG_DATA_DIR", str(tmp_path))
    assert await terminal.refused("login", terminal.url, stdin="flk_wrong\n") == "unauthenticated"
    assert not file.exists()
    assert "admin" in await terminal.ok("login", terminal.url, stdin=terminal.key + "\n")
    without = Terminal("", "")
    assert [grant["role"] for grant in (await without.json("me"))["grants"]] == ["administrator"]
    await terminal.ok("logout")
    assert await without.refused("me") == "no_address"


async def test_a_second_person(terminal: Terminal, fleet: Fleet, api: Api) -> None:
    """What waits for somebody else is listed, shown, approved in a session and taken back; a key decides nothing.

    A key that waits is shown at once.
    """
    await fleet.agent("web-07")
    allow = ["rollouts.start", "commands.queue", "commands.shell", "approvals.see", "keys.manage", "people.see"]
    allowed = [part for one in allow for part in ("--allow", one)]
    await terminal.ok("roles", "add", "careful", *allowed, "--approval-above", "0", "--approval-for", "keys.manage")
    await terminal.ok("users", "add", "Ada", "--grant", "careful")
    key = (await terminal.json("keys", "create", "Ada", "--owner", "Ada", "--unattended"))["key"]
    person = await Person.ready(api, "Bob", {"role": "administrator", "everything": True})
    ada, bob = (Terminal(api.url, each, terminal.settle) for each in (key, person.token))
    rollout = {"name": "r", "target": {"include": {"everything": True}}, "spec": {"kind": "ping"}}
    asked = [await api.client(ada.key, check=False).post("/rollouts", json=rollout) for _ in range(2)]
    first, second = (one.json()["approval_id"] for one in asked)
    assert first in await bob.ok("approvals")
    assert "everything" in await bob.ok("approvals", "show", first)
    assert await terminal.refused("approvals", "approve", first) == "person_needed"
    assert await terminal.refused("approvals", "refuse", first) == "person_needed"
    await bob.ok("approvals", "approve", first, "--reason", "fine")
    await ada.ok("approvals", "withdraw", second)
    assert await bob.refused("approvals", "refuse", second) == "approval_decided"
    waiting = await ada("keys", "create", "ci", "--grant", "careful")
    assert waiting.exit_code == 2
    assert waiting.stdout.startswith("flk_")
    assert "approval_awaited" in waiting.stderr


async def test_passwords_from_the_command_line(terminal: Terminal) -> None:
    """One that is made is shown once; one that is given comes from standard input; sessions are ended by name."""
    await terminal.ok("users", "add", "Ada")
    shown = await terminal.json("users", "set-password", "Ada")
    assert shown["password"]
    assert shown["password"] not in await terminal.ok("users", "show", "Ada")
    given = await terminal.ok("users", "set-password", "Ada", "--ask", stdin="four blue Elephants\n")
    assert "Elephants" not in given
    assert await terminal.refused("users", "set-password", "Ada", "--ask", stdin="password1234\n") == "weak_password"
    assert await terminal.refused("users", "set-password", "Ada", "--ask", stdin="") == "bad_value"
    assert await terminal.refused("users", "reset-second-factor", "Ada") == "no_second_factor"
    await terminal.ok("users", "log-out", "Ada", "--reason", "left the room")


async def test_notes_on_a_machine(terminal: Terminal, fleet: Fleet) -> None:
    """Written, changed by a piece of its id, removed; a piece that fits none is refused."""
    await fleet.agent("web-07")
    note = (await terminal.json("notes", "add", "web-07", "the fan rattles"))["id"]
    await terminal.ok("notes", "change", "web-07", note[-12:], "quiet again")
    assert "quiet again" in await terminal.ok("notes", "list", "web-07")
    assert await terminal.refused("notes", "remove", "web-07", "ffffffff-nothing") == "not_found"
    await terminal.ok("notes", "remove", "web-07", note)
    assert await terminal.json("notes", "list", "web-07") == []
