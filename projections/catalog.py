"""Every projection there is, and how each stands."""

from projections import tracking
from projections.agents import Agents
from projections.api_keys import ApiKeys
from projections.approvals import Approvals
from projections.checks import Checks
from projections.clients import Clients
from projections.commands import Commands
from projections.destinations import Destinations
from projections.enrollments import Enrollments
from projections.errors import UnknownProjectionError
from projections.fields import Fields
from projections.pages import Connection
from projections.pending import Pending
from projections.projection import Projection
from projections.roles import Roles
from projections.rollouts import Rollouts
from projections.scripts import Scripts
from projections.secrets import Secrets
from projections.tokens import Tokens
from projections.tracking import ProjectionStatus
from projections.users import Users
from projections.views import Views

LIVE = "read"
SHADOW = "read_shadow"
"""Where a rebuild makes its tables, until they take the place of the live ones."""
PAST = ("past_1", "past_2", "past_3", "past_4")
"""Where replays keep the tables as of earlier positions: so many there can be at once."""

PENDING = Pending()
ALL_PROJECTIONS: tuple[Projection, ...] = (
    PENDING,
    Clients(),
    Agents(),
    Checks(),
    Scripts(),
    Commands(),
    Rollouts(),
    Tokens(),
    Enrollments(),
    ApiKeys(),
    Users(),
    Roles(),
    Approvals(),
    Secrets(),
    Fields(),
    Destinations(),
    Views(),
)
FOLLOWING: tuple[Projection, ...] = tuple(projection for projection in ALL_PROJECTIONS if not projection.inline)
INLINE: tuple[Projection, ...] = tuple(projection for projection in ALL_PROJECTIONS if projection.inline)


def named(name: str) -> Projection:
    """The projection of that name.

    Raises:
        UnknownProjectionError: there is none.
    """
    for projection in ALL_PROJECTIONS:
        if projection.name == name:
            return projection
    raise UnknownProjectionError(f"There is no projection {name!r}; there are {', '.join(names())}.")


def names() -> list[str]:
    return [projection.name for projection in ALL_PROJECTIONS]


async def list_status(connection: Connection) -> list[ProjectionStatus]:
    """How every projection stands, for `fleetlog projections list` and `fleetlog status`."""
    # Positions first: a head read before them could lie behind.
    tracked = await tracking.read_positions(connection)
    head = await tracking.read_head(connection)
    found = []
    for projection in ALL_PROJECTIONS:
        row = tracked.get(projection.name)
        if row is None:
            continue
        position = head if projection.inline else row.position
        stale = row.digest != projection.digest
        found.append(
            ProjectionStatus(
                name=projection.name,
                status="stopped" if row.stopped else "stale" if stale else "running",
                position=position,
                head=head,
                lag=head - position,
                inline=projection.inline,
                error=row.error,
                error_topic=row.error_topic,
                error_position=row.error_position,
                updated_at=row.updated_at,
            )
        )
    return found
