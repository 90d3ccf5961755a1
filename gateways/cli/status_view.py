"""`fleetlog status` for people."""

from typing import Any

import msgspec

from gateways.cli.output import Column, Output, Row, ago
from gateways.status import Status

KB = 1_000
MB = 1_000_000


def show(status: Status, out: Output) -> None:
    """Print every part, and what is down last, where the eye ends."""
    document: dict[str, Any] = msgspec.to_builtins(status)
    _section(out, "Servers")
    out.rows([_cell("part", "name"), _up(), _cell("ms", "latency_ms"), _cell("detail", "detail")], document["parts"])
    if status.brokers:
        _section(out, "NATS servers")
        out.rows(_BROKER, [row["state"] | row for row in document["brokers"]])
    _section(out, "Processes")
    out.rows(
        [
            _cell("role", "role"),
            _up(),
            _cell("host", "host"),
            _cell("pid", "pid"),
            _cell("state", "state"),
            Column("since", lambda row: ago(row["started_at"])),
            _cell("note", "note"),
            _cell("health and metrics", "status_url"),
        ],
        document["processes"],
    )
    if status.projections:
        _section(out, "Projections")
        columns = [_cell(name, name) for name in ("status", "position", "lag", "error")]
        out.rows([_cell("projection", "name"), _up(), *columns], document["projections"])
    if status.chain is not None:
        _section(out, "Audit chain")
        columns = [_cell(name, name) for name in ("status", "position", "lag", "checkpoint")]
        last = Column("made", lambda row: ago(row["checkpointed_at"]))
        out.rows([_up(), *columns, last, _cell("exported", "exported")], [document["chain"]])
    if status.forwarding:
        _section(out, "Forwarding")
        columns = [_cell(name, name) for name in ("kind", "status", "position", "lag", "sent")]
        since = Column("failing", lambda row: ago(row["failing_since"]))
        out.rows(
            [_cell("destination", "name"), _up(), *columns, since, _cell("error", "error")], document["forwarding"]
        )
    if status.pending is not None:
        _section(out, "Pending commands")
        depths = document["pending"]
        out.rows(
            [*(_cell(name, name) for name in ("queued", "delivered", "running", "agents")),
             Column("oldest", lambda row: ago(row["oldest_at"]))],
            [depths],
        )  # fmt: skip
    if status.database_bytes is not None:
        _section(out, "Database")
        out.rows([Column("size", lambda row: f"{row['database_bytes'] / MB:,.1f} MB")], [document])
    _section(out, "Retention")
    document["retention"].pop("version")
    kept = [_cell(name.replace("_", " "), name) for name in document["retention"]]
    out.rows(kept, [{name: "for ever" if value is None else value for name, value in document["retention"].items()}])
    if status.queues:
        _section(out, "Background work")
        out.rows([_cell(name, name) for name in ("name", "waiting", "active", "scheduled", "dead")], document["queues"])
    if status.agents is not None:
        _section(out, "Agents")
        out.rows(
            [_cell(name, name) for name in ("total", "online", "suspended", "retired", "duplicates")],
            [document["agents"]],
        )
    for fault in status.faults():
        out.error("down", fault)


def _section(out: Output, title: str) -> None:
    if out.console.is_terminal:
        out.plain("")
        out.console.print(f"[bold]{title}[/bold]")
    else:
        out.plain(f"# {title}")


def _cell(title: str, key: str) -> Column:
    def cell(row: Row) -> Any:
        return row[key]

    return Column(title, cell)


def _up() -> Column:
    return Column("up", lambda row: "yes" if row["ok"] else "DOWN")


def _rate(title: str, way: str) -> Column:
    def cell(row: Row) -> Any:
        messages, size = row[f"{way}_messages_per_s"], row[f"{way}_bytes_per_s"]
        return None if messages is None else f"{messages:,.0f}/s, {size / KB:,.1f} kB/s"

    return Column(title, cell)


_BROKER = [
    _cell("name", "name"),
    _up(),
    *(_cell(name.replace("_", " "), name) for name in ("version", "connections", "subscriptions", "slow_consumers")),
    _rate("in", "in"),
    _rate("out", "out"),
    Column("JetStream", lambda row: "on" if row["jetstream"] else "off"),
    _cell("cluster", "cluster"),
    _cell("routes", "routes"),
]
