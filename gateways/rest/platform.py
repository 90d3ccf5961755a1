"""Fleetlog itself: how long it keeps what it need not keep, and its own keys."""

from typing import Any

from pydantic import Field
from starlette.responses import Response

from command_bus.intents.platform import RetireServerKey, RotateServerKey, SetRetention
from domain.errors import AgentsUnawareError, KeyNotTakenError, KeyOverlapError, NoOldKeyError
from domain.permissions import Permission
from domain.server_keys import Purpose
from gateways.agents.key_changes import KeyStanding
from gateways.rest.route import Answer, Call, Model, OfLogQuery, Route, json_response, one, write
from gateways.retention import retention_now
from projections.agents import unaware_of_key

TAG = "Platform"


class KeptModel(Model):
    """How long is kept what need not be kept for ever; null is for ever."""

    archive_after_days: int | None = Field(description="Commands and rollouts that ended then move to the archive.")
    output_keep_days: int | None = Field(description="Whole outputs that no result has named for so long go.")
    output_keep_bytes: int | None = Field(description="Beyond so much in all, those named longest ago go.")
    version: int = Field(
        description="Of what is set on record; 0: nothing is, and the settings of processes hold, as they are now."
    )


class ServerKeyModel(Model):
    """One of the server's own keys that counts, or did."""

    key: Purpose
    number: int
    public_key: str = Field(description="Ed25519, in hex.")
    state: str = Field(description="`used`, `announced` (counts beside the one that is used) or `retired`.")
    known_by: int | None = Field(
        description="Of the delivery key: how many agents have said that they know it; null as of then."
    )
    agents: int | None = Field(description="Of so many that are not retired.")


class ServerKeysModel(Model):
    """The server's own keys, those of one purpose together, the oldest first."""

    items: list[ServerKeyModel]


class ServerKeyAnswer(Answer):
    """A step from one key to the next."""

    key: Purpose
    number: int = Field(description="Of the key that was made, or is over.")
    public_key: str
    unaware: int = Field(description="Agents that had not said that they know the one that is left.")


async def show_retention(call: Call) -> Response:
    async with call.connection_now() as connection:
        kept = await retention_now(connection, call.parts.retention, call.at)
    return one(kept, kept.version)


async def list_server_keys(call: Call) -> Response:
    standings = await call.parts.server_keys.standings(call.at)
    if call.at is not None:
        return json_response({"items": [_shown(standing) for standing in standings]})
    async with call.connection_now() as connection:
        return json_response({"items": [await _document(connection, standing) for standing in standings]})


async def _document(connection: Any, standing: KeyStanding) -> dict[str, Any]:
    shown = _shown(standing)
    if standing.purpose is not Purpose.DELIVERY:
        return shown
    unaware = await unaware_of_key(connection, standing.number)
    return shown | {"known_by": unaware.total - unaware.count, "agents": unaware.total}


def _shown(standing: KeyStanding) -> dict[str, Any]:
    shown = {"number": standing.number, "public_key": standing.public_key, "state": standing.state}
    return {"key": standing.purpose, **shown, "known_by": None, "agents": None}


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/retention",
        needs=Permission.PLATFORM_SEE,
        everywhere=True,
        summary="How long is kept what need not be kept for ever.",
        tag=TAG,
        handler=show_retention,
        query=OfLogQuery,
        of_log=True,
        response=KeptModel,
        etag=True,
    ),
    write("PUT", "/retention", SetRetention, tag=TAG),
    Route(
        method="GET",
        path="/server-keys",
        needs=Permission.PLATFORM_SEE,
        everywhere=True,
        summary="The server's own keys: which count, and who knows them.",
        tag=TAG,
        handler=list_server_keys,
        query=OfLogQuery,
        of_log=True,
        response=ServerKeysModel,
    ),
    write(
        "POST",
        "/server-keys/rotate",
        RotateServerKey,
        tag=TAG,
        response=ServerKeyAnswer,
        errors=(KeyOverlapError,),
    ),
    write(
        "POST",
        "/server-keys/retire",
        RetireServerKey,
        tag=TAG,
        response=ServerKeyAnswer,
        errors=(NoOldKeyError, AgentsUnawareError, KeyNotTakenError),
    ),
)
