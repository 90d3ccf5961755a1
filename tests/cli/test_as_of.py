"""Whatever shows something shows it as of then, too, or it is said why not: over the API and from the terminal."""

import asyncio
import inspect
import json
from typing import Any

import pytest

from gateways.cli.program import make_app, run
from gateways.rest.routes import ROUTES
from tests.cli.terminal import Terminal
from tests.cli.test_on_record import callbacks
from tests.rest.harness import Api, Fleet

CHANGES = {
    "abort", "accept", "add", "add-nats", "add-syslog", "add-webhook", "approve", "archive", "cancel", "change",
    "close", "countersign", "create", "define", "disable", "drop", "enable", "end", "end-all", "erase",
    "erase-refused", "export", "extract", "fill", "grant", "keep", "link", "log-out", "move", "pause", "plan",
    "prioritise", "rebuild", "refuse", "release", "remove", "rename", "reset-second-factor", "restore",
    "install", "reboot", "resume", "retire", "retry", "revise", "revoke", "roll-over", "rotate", "rotate-key",
    "run", "save", "set", "set-password", "skip", "start", "suspend", "tag", "unlink", "withdraw",
}  # fmt: skip
"""The last words of commands that change something, or write a file."""
AT_ONCE = {
    "up", "serve", "migrate", "init", "first-admin", "bench", "backup", "restore", "run", "login", "logout",
    "prove", "password", "second-factor", "recovery-codes", "simulate", "demo", "agent",
}  # fmt: skip
"""Commands of one word that do something."""
OF_NOW = {
    "status": "how the platform is: no event says it",
    "diff": "it names both positions itself",
    "me": "who asks, and what they may, is judged as of now",
    "config show": "settings are on no record",
    "config nats": "what a server needs now",
    "tls show": "files of this machine",
    "projections list": "how far they are: no event says it",
    "projections verify": "it compares what is there",
    "archive list": "a segment never changes, and bears its positions",
    "archive verify": "it compares what is there",
    "archive check": "it compares what is there",
    "replay list": "what may be asked now",
    "roles permissions": "what this program knows of",
    "audit head": "the chain is made beside the log",
    "audit checkpoints": "a checkpoint never changes, and bears its positions",
    "audit checkpoint": "the same",
    "audit prove": "the log is as it was",
    "audit verify": "it takes --since",
    "audit check": "it reads a file",
    "sessions list": "one's own, as of now",
    "passkeys list": "the same",
}
OF_NOW_BY_API = {
    "/status": "how the platform is: no event says it",
    "/diff": "it names both positions itself",
    "/permissions": "what this program knows of",
    "/session": "one's own, as of now",
    "/sessions": "the same",
    "/session/passkeys": "the same",
    "/session/sso": "the same",
    "/audit/head": "the chain is made beside the log",
    "/audit/checkpoints": "a checkpoint never changes, and bears its positions",
    "/audit/checkpoints/{checkpoint}": "the same",
    "/audit/events/{position}/proof": "the log is as it was",
    "/audit/extracts/{extract_id}": "it was asked for up to a position",
    "/events/stream": "what comes is of now",
    "/read-models": "it names the tables",
}


def test_each_command_that_shows_something_takes_at() -> None:
    """One that has no --at changes something, or it is said why it shows what is now alone."""
    without = {name for name, function in callbacks(make_app()) if "at" not in inspect.signature(function).parameters}
    reading = {name for name in without - AT_ONCE if name.split()[-1] not in CHANGES}
    assert reading == set(OF_NOW)


def test_each_read_of_the_api_takes_at() -> None:
    """One that has no `at` is in the table of those that show what is now alone."""
    without = {route.path for route in ROUTES if route.method == "GET" and "at" not in route.query.model_fields}
    assert without == set(OF_NOW_BY_API)


async def test_what_was_kept_and_which_keys_counted(
    api: Api,
    fleet: Fleet,
    terminal: Terminal,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Retention as it was set then, and each of the server's keys as it stood; over the API and at the host alike."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url)

    async def at_the_host(*arguments: str) -> Any:
        assert await asyncio.to_thread(run, ["server-keys", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    async def keys(at: int) -> list[tuple[int, str]]:
        """Of the delivery key, whichever way they are asked for."""
        shown = (await fleet.http.get("/server-keys", params={"at": at})).json()["items"]
        over_api = [(one["number"], one["state"]) for one in shown if one["key"] == "delivery"]
        rows = await at_the_host("list", "--at", str(at))
        assert [(one["number"], one["state"]) for one in rows if one["purpose"] == "delivery"] == over_api
        assert {one["known_by"] for one in shown} == {None}
        return over_api

    first = await api.log.head()
    await terminal.ok("retention", "set", "--output-keep-days", "30")
    second = await api.log.head()
    await at_the_host("rotate", "delivery")
    await terminal.ok("retention", "set", "--output-keep-days", "60")
    third = await api.log.head()
    await at_the_host("retire", "delivery")
    assert await keys(first) == [(1, "used")]
    assert await keys(third) == [(1, "used"), (2, "announced")]
    assert await keys(await api.log.head()) == [(1, "retired"), (2, "used")]
    kept = {}
    for at in (first, second, third):
        rows = await terminal.json("retention", "list", "--at", str(at))
        kept[at] = {(row["kept"], row["set"]) for row in rows if row["what"] == "output_keep_days"}
    assert kept == {first: {(None, "by settings")}, second: {(30, "on record")}, third: {(60, "on record")}}
