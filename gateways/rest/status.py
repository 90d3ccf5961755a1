"""How the platform itself fares: what `fleetlog status` shows."""

from typing import Any

import msgspec
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from domain.permissions import Permission
from gateways.rest.platform import KeptModel
from gateways.rest.route import Call, Model, Route, json_response

TAG = "Platform"


class PartModel(Model):
    """A server, or the API as others reach it."""

    name: str
    ok: bool
    detail: str = Field(description="What answers, or why it does not.")
    latency_ms: float | None


class BrokerStateModel(Model):
    """What a NATS server says of itself."""

    version: str
    cluster: str = Field(description="Its cluster's name; empty where it is alone.")
    jetstream: bool
    started_at: AwareDatetime
    connections: int
    subscriptions: int
    slow_consumers: int = Field(description="Clients that it has cut off since it began, since they did not keep up.")
    routes: int = Field(description="Connections to the other servers of its cluster.")
    memory_bytes: int
    cpu_percent: float
    in_messages_per_s: float | None = Field(description="Null until it has been asked twice.")
    in_bytes_per_s: float | None
    out_messages_per_s: float | None
    out_bytes_per_s: float | None


class BrokerModel(Model):
    """A NATS server, as a gateway last heard of it."""

    id: str
    name: str
    ok: bool = Field(description="It has answered within the last 15 seconds.")
    last_word_s: float = Field(description="Seconds since it last answered.")
    state: BrokerStateModel


class ProcessModel(Model):
    """A role's process; a role that nobody fills is one without a pid."""

    role: str
    ok: bool
    host: str | None
    pid: int | None
    state: str
    note: str
    status_url: str | None = Field(description="Where it serves its health and its metrics.")
    started_at: AwareDatetime | None
    last_word_s: float | None = Field(description="Seconds since it last said that it is there.")
    version: str | None


class ProjectedModel(Model):
    """A projection."""

    name: str
    ok: bool
    status: str = Field(description="`running`, `behind`, `stale` (its code has changed: rebuild it) or `stopped`.")
    position: int
    lag: int = Field(description="Positions that it is behind the log.")
    error: str | None
    error_topic: str | None
    error_position: int | None
    updated_at: AwareDatetime


class ChainedModel(Model):
    """The audit chain."""

    ok: bool
    status: str
    position: int
    lag: int
    checkpoint: int
    checkpointed_at: AwareDatetime | None
    exported: dict[str, int] = Field(description="The last checkpoint that each kind of destination has got.")


class ForwardedModel(Model):
    """A destination of forwarded events."""

    name: str
    ok: bool
    status: str
    kind: str
    position: int
    lag: int
    sent: int
    failing_since: AwareDatetime | None
    error: str
    tries_at: AwareDatetime | None


class DepthsModel(Model):
    """The pending queues of all agents together."""

    queued: int
    delivered: int
    running: int
    agents: int = Field(description="With anything pending.")
    oldest_at: AwareDatetime | None


class QueueModel(Model):
    """A queue of background work."""

    name: str
    waiting: int
    active: int
    scheduled: int
    dead: int = Field(description="Given up after all retries; kept for a week.")


class AgentCountsModel(Model):
    """How many machines there are."""

    total: int
    online: int
    suspended: int
    retired: int
    duplicates: int


class StatusModel(Model):
    """Everything; `ok` is true when nothing is down."""

    ok: bool
    faults: list[str] = Field(description="A line for each thing that is down.")
    parts: list[PartModel]
    brokers: list[BrokerModel] = Field(description="The NATS servers; gateways ask each every five seconds.")
    processes: list[ProcessModel]
    projections: list[ProjectedModel]
    chain: ChainedModel | None
    forwarding: list[ForwardedModel]
    pending: DepthsModel | None = Field(description="The commands that wait; null when Postgres is away.")
    database_bytes: int | None = Field(description="What the database takes on disk.")
    retention: KeptModel
    queues: list[QueueModel]
    agents: AgentCountsModel | None


async def show_status(call: Call) -> Response:
    status = await call.parts.status()
    document: dict[str, Any] = msgspec.to_builtins(status)
    return json_response(document | {"faults": status.faults()})


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/status",
        needs=Permission.PLATFORM_SEE,
        everywhere=True,
        summary="How every server, process, projection and queue fares.",
        tag=TAG,
        handler=show_status,
        response=StatusModel,
        description="What `fleetlog status` shows. Something that is down is in the answer, which is a 200 all the "
        "same; what was seen counts for two seconds.",
    ),
)
