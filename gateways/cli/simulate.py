"""``fleetlog simulate``: many agents in one process, over the real protocol, that hold the platform to its word."""

import asyncio
import secrets
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from gateways.cli import finding
from gateways.cli.errors import BadValueError, CommandLineError, NoPlatformError
from gateways.cli.output import Output, Row
from gateways.cli.session import Session, command
from gateways.cli.times import seconds

if TYPE_CHECKING:
    from gateways.simulate.enrollment import Enrolled
    from gateways.simulate.plan import Plan, Report

BROKEN = 1
CLIENT = SITE = "Simulated"
TOKEN_LIFE = timedelta(hours=1)


class NotSimulatedError(CommandLineError):
    """The simulation could not be run."""

    code = "not_simulated"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "simulate")(simulate)


def simulate(
    session: Session,
    agents: Annotated[int, typer.Option("--agents", min=1, help="How many.")] = 100,
    duration: Annotated[str, typer.Option("--for", metavar="SPAN", help="90s, 15m, 2h.")] = "60s",
    commands: Annotated[
        int, typer.Option("--commands", min=0, help="Queue so many, evenly over the time and the agents.")
    ] = 0,
    run_s: Annotated[float, typer.Option("--run-s", min=0, help="How long a command runs, on average.")] = 0.2,
    latency_s: Annotated[
        float, typer.Option("--latency-s", min=0, max=5, help="How long what an agent says is on its way, on average.")
    ] = 0.0,
    failing: Annotated[float, typer.Option("--failing", min=0, max=1, help="Share of runs that fail.")] = 0.05,
    offline: Annotated[
        float, typer.Option("--offline", min=0, max=1, help="Share of agents that are away until the end.")
    ] = 0.0,
    churn: Annotated[
        float, typer.Option("--churn", min=0, help="Share of agents that lose their connection, each minute.")
    ] = 0.0,
    away_s: Annotated[float, typer.Option("--away-s", min=0, help="How long one of them stays away.")] = 5.0,
    settle: Annotated[
        str, typer.Option("--settle", help="How long it may take in the end until all that waits is done.")
    ] = "60s",
    site: Annotated[
        str | None, typer.Option("--site", help="Where they enroll; one of their own, made at need, if none is named.")
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Record them as enrolled in bulk; needs the database's address.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Repeats the choices of an earlier run.")] = None,
) -> None:
    """Be many agents at once, over real connections, and check what they are promised.

    They enroll, connect, run what they are sent (nothing is really run), report, lose their connections and come back.
    Commands come from --commands, or from whatever you do meanwhile. In the end everybody is online, and what waited
    is done. Exit code 1 when anything was lost, came twice, out of order or too late. Ctrl-C ends it early.
    """
    from gateways.simulate.plan import Plan  # noqa: PLC0415 - the other commands need not wait for what this one needs

    plan = Plan(
        duration_s=seconds(duration),
        run_s=run_s,
        latency_s=latency_s,
        failing=failing,
        offline=offline,
        churn=churn,
        away_s=away_s,
        commands=commands,
        settle_s=seconds(settle),
        seed=seed if seed is not None else secrets.randbelow(2**31),
    )
    place = finding.site(session.api, site) if site else _own_site(session)
    report = _run(session, plan, place, agents, adopt=adopt)
    _show(report, session.out)
    raise typer.Exit(0 if report.ok else BROKEN)


def _own_site(session: Session) -> Row:
    """A client and a site that hold nothing but simulated agents."""
    api = session.api
    client = next((one for one in api.items("/clients") if one["name"] == CLIENT), None)
    client_id = client["id"] if client else api.post("/clients", {"name": CLIENT})["id"]
    sites = f"/clients/{client_id}/sites"
    found = next((one for one in api.items(sites) if one["name"] == SITE), None)
    return found or {"id": api.post(sites, {"name": SITE})["id"], "client_id": client_id, "name": SITE}


def _run(session: Session, plan: "Plan", place: Row, agents: int, *, adopt: bool) -> "Report":
    import psycopg  # noqa: PLC0415 - as above

    from gateways.local.roles import loop_factory  # noqa: PLC0415 - as above
    from gateways.settings import SettingsError  # noqa: PLC0415 - as above
    from gateways.simulate.fleet import TooManyError  # noqa: PLC0415 - as above

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_simulate(session, plan, place, agents, adopt=adopt))
    except (psycopg.OperationalError, SettingsError, TooManyError) as error:
        raise NotSimulatedError(str(error)) from error


async def _simulate(session: Session, plan: "Plan", place: Row, agents: int, *, adopt: bool) -> "Report":
    from gateways.simulate.fleet import Simulation  # noqa: PLC0415 - as above

    out = session.out
    out.note(f"{agents} agents enroll in {place['name']}; seed {plan.seed}")
    enrolled = await (_adopt(agents, place) if adopt else _enroll(session, agents, place))
    strange = [url for url in enrolled.nats_urls if not url.startswith("nats://")]
    if strange and len(strange) == len(enrolled.nats_urls):
        raise BadValueError(f"Simulated agents speak nats:// alone, and this fleet offers {', '.join(strange)}.")
    simulation = Simulation(
        plan,
        _plain(enrolled),
        UUID(place["client_id"]),
        session.api,
        refusals=(CommandLineError,),
        tell=_teller(out),
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, simulation.ask_to_stop)
    try:
        return await simulation.run()
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _plain(enrolled: "Enrolled") -> "Enrolled":
    import msgspec  # noqa: PLC0415 - as above

    return msgspec.structs.replace(enrolled, nats_urls=[url for url in enrolled.nats_urls if url.startswith("nats://")])


def _teller(out: Output) -> Callable[[str], None]:
    return out.note if out.errors.is_terminal else lambda _line: None


async def _enroll(session: Session, agents: int, place: Row) -> "Enrolled":
    from gateways.simulate.enrollment import AT_ONCE, enroll  # noqa: PLC0415 - as above

    tokens = []
    for first in range(min(AT_ONCE, agents)):
        token = await asyncio.to_thread(
            session.api.post,
            "/enrollment-tokens",
            {
                "site_id": place["id"],
                "max_uses": len(range(first, agents, AT_ONCE)),
                "expires_at": (datetime.now(UTC) + TOKEN_LIFE).isoformat(),
                "note": "fleetlog simulate",
            },
        )
        tokens.append(token["token"])
    return await enroll(session.api, agents, tokens)


async def _adopt(agents: int, place: Row) -> "Enrolled":
    from gateways.local.platform_file import completed  # noqa: PLC0415 - as above
    from gateways.settings import load_settings, need  # noqa: PLC0415 - as above
    from gateways.simulate.enrollment import adopt  # noqa: PLC0415 - as above

    settings = completed(load_settings())
    if settings.postgres_url is None:
        raise NoPlatformError
    told = settings.nats_agent_urls or need(settings.nats_url, "nats_url")
    urls = [url.strip() for url in told.split(",")]
    url = need(settings.postgres_url, "postgres_url")
    return await adopt(url, urls, agents, UUID(place["client_id"]), UUID(place["id"]))


_FIELDS = (
    ("agents", "agents"),
    ("took", "seconds"),
    ("let in", "connections"),
    ("connections ended by the churn", "churned"),
    ("connections lost", "lost"),
    ("attempts accepted", "received"),
    ("delivered again", "redelivered"),
    ("runs", "runs"),
    ("outcomes", "outcomes"),
    ("messages repeated", "repeated"),
    ("messages not acknowledged", "unacknowledged"),
    ("still waiting", "waiting"),
    ("queued to delivered, p50 ms", "delay_p50_ms"),
    ("queued to delivered, p99 ms", "delay_p99_ms"),
    ("queued here", "queued"),
    ("of them ended", "ended"),
    ("refused by the API", "not_queued"),
    ("seed", "seed"),
)


def _show(report: "Report", out: Output) -> None:
    document = report.document()
    out.fields([(title, document[name]) for title, name in _FIELDS], document)
    for breach in report.breaches:
        out.error(f"broken: {breach.rule}", f"command {breach.command_id} of agent {breach.agent_id}: {breach.detail}")
    if not out.as_json:
        total = sum(report.broken.values())
        out.plain("verdict  ", "everything as promised" if report.ok else f"{total} breaches")
