"""``fleetlog run``: one command for one agent, waited for and watched."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.errors import BadValueError
from gateways.cli.finding import AgentArgument, complete_script
from gateways.cli.output import Row
from gateways.cli.scripts import environment
from gateways.cli.session import Session, command
from gateways.cli.times import point, seconds
from gateways.cli.watching import follow, leaving_it_queued, summary

NOT_SUCCEEDED = 1
RETRYABLE = ("failed", "timed_out", "interrupted")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "run")(run)


def run(
    session: Session,
    agent: AgentArgument,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCRIPT|LINE]", help="A script; with --shell, a line for it.", autocompletion=complete_script
        ),
    ] = None,
    shell: Annotated[str | None, typer.Option("--shell", help="Run a line: sh, bash, python, ...")] = None,
    ping: Annotated[bool, typer.Option("--ping", help="Do nothing, durably.")] = False,
    facts: Annotated[bool, typer.Option("--facts", help="Gather the machine's facts.")] = False,
    revision: Annotated[int | None, typer.Option("--revision", min=1, help="Of the script; the newest.")] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", help="Instead of the script's own; repeatable.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Repeatable.")] = None,
    timeout: Annotated[str | None, typer.Option("--timeout", help="How long it may run: 90s, 15m.")] = None,
    run_as: Annotated[str | None, typer.Option("--run-as", help="A user of the machine.")] = None,
    lane: Annotated[str | None, typer.Option("--lane", help="Commands of one lane run one at a time.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", min=0, max=9, help="0 first, 9 last.")] = None,
    not_before: Annotated[str | None, typer.Option("--not-before", help="A time, or 2h from now.")] = None,
    expires_in: Annotated[str | None, typer.Option("--expires-in", help="Not delivered later: 2h, 7d.")] = None,
    retry: Annotated[int | None, typer.Option("--retry", min=1, help="Attempts in all.")] = None,
    retry_on: Annotated[list[str] | None, typer.Option("--retry-on", help="failed, timed_out, interrupted.")] = None,
    backoff: Annotated[str, typer.Option("--backoff", help="Wait before the next attempt.")] = "60s",
    reason: Annotated[str, typer.Option("--reason", help="Why; shown in its story.")] = "",
    queue: Annotated[bool, typer.Option("--queue", help="Return at once instead of waiting.")] = False,
) -> None:
    """Run a script or a shell line on an agent, online or not.

    Waits for the end and shows the output as it appears. Exit code 0: it succeeded; 1: it did not; 2: it was not
    queued. Ctrl-C ends the waiting, not the command.
    """
    target = finding.agent(session.api, agent)
    spec = specification(
        session,
        what,
        shell,
        ping=ping,
        facts=facts,
        revision=revision,
        arg=arg,
        env=env,
        timeout=timeout,
        run_as=run_as,
    )
    now = datetime.now(UTC)
    body = {"agent_id": target["id"], "spec": spec, "reason": reason} | _options(
        lane=lane,
        priority=priority,
        not_before=point(not_before, now).isoformat() if not_before else None,
        expires_at=point(expires_in, now).isoformat() if expires_in else None,
        retry=_retry(retry, retry_on, backoff),
    )
    queued = session.api.post("/commands", body)
    watch(session, queued, target["name"], wait=not queue)


def watch(session: Session, queued: Row, agent_name: str, *, wait: bool) -> None:
    """Say that a command is queued, or wait for its end and leave with its exit code."""
    command_id = queued["id"]
    if not wait:
        session.out.done(f"Queued for {agent_name}: {command_id}", queued)
        return
    with leaving_it_queued(session.out, command_id):
        ended = follow(session.api, session.out, session.api.get(f"/commands/{command_id}"), agent_name)
    if session.out.as_json:
        session.out.json(ended)
    else:
        session.out.note(f"{command_id} {summary(ended)}")
    if ended["state"] != "succeeded":
        raise typer.Exit(NOT_SUCCEEDED)


def specification(
    session: Session,
    what: str | None,
    shell: str | None,
    *,
    ping: bool,
    facts: bool,
    revision: int | None,
    arg: list[str] | None,
    env: list[str] | None,
    timeout: str | None,
    run_as: str | None,
) -> Row:
    """What is to be done, with the options that belong to it.

    Raises:
        BadValueError: it is nothing, or several things, or has an option of another kind.
    """
    spec = _spec(session, what, shell, ping=ping, facts=facts)
    if spec["kind"] in ("run_script", "run_shell"):
        spec |= _options(env=environment(env) or None, timeout_s=seconds(timeout) if timeout else None, run_as=run_as)
    elif env or timeout or run_as:
        raise BadValueError("--env, --timeout and --run-as belong to a script or a shell line.")
    if spec["kind"] == "run_script":
        spec |= _options(args=arg or None, revision=revision)
    elif arg or revision:
        raise BadValueError("--arg and --revision belong to a script.")
    return spec


def _spec(session: Session, what: str | None, shell: str | None, *, ping: bool, facts: bool) -> Row:
    """What is to be done, of the four kinds there are."""
    if [ping, facts, what is not None].count(True) != 1 or (shell is not None and what is None):
        raise BadValueError("Name one thing to do: SCRIPT, --shell SHELL 'LINE', --ping or --facts.")
    if ping:
        return {"kind": "ping"}
    if facts:
        return {"kind": "collect_facts"}
    if shell is not None:
        return {"kind": "run_shell", "shell": shell, "line": what}
    return {"kind": "run_script", "script_id": finding.script(session.api, what or "")["id"]}


def _retry(attempts: int | None, outcomes: list[str] | None, backoff: str) -> Row | None:
    if attempts is None:
        if outcomes:
            raise BadValueError("--retry-on needs --retry ATTEMPTS.")
        return None
    return {"max_attempts": attempts, "on": outcomes or list(RETRYABLE), "backoff_s": seconds(backoff)}


def _options(**given: object) -> Row:
    return {name: value for name, value in given.items() if value is not None}
