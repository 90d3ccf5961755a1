"""What can go wrong between the log and its read models."""

from domain.errors import DomainError


class ProjectionError(Exception):
    """A projection cannot do what was asked."""

    code = "projection_error"


class UnknownProjectionError(ProjectionError):
    """There is no projection of that name; `fleetlog projections list` names them."""

    code = "unknown_projection"


class FoldError(ProjectionError):
    """An event does not fit the rows that the events before it left."""

    code = "fold_error"


class RebuildRunningError(ProjectionError):
    """The projection is being rebuilt already; wait for that to end."""

    code = "rebuild_running"


class ReplayError(ProjectionError):
    """A replay cannot be made or read."""

    code = "replay_error"


class PositionNotReachedError(ReplayError):
    """The log is not at that position yet."""

    code = "position_not_reached"


class ReplayExistsError(ReplayError):
    """There is a replay of that name already: drop it, or give another name."""

    code = "replay_exists"


class ReplaysFullError(ReplayError):
    """There is no place for another replay: drop one with `fleetlog replay drop`."""

    code = "replays_full"


class UnknownReplayError(DomainError):
    """There is no replay of that name; `fleetlog replay list` shows them."""

    code = "unknown_replay"
    status = 409


class NoReplayError(DomainError):
    """No replay stands at that position; `fleetlog replay make --at POSITION` makes one."""

    code = "no_replay"
    status = 409


class BehindErasureError(ProjectionError):
    """Somebody was erased since, so its rows cannot be compared until it has folded that: try again then."""

    code = "behind_erasure"


class PositionTimeoutError(ProjectionError):
    """The projection did not reach the position in time: it is behind, stopped, or no projector runs."""

    code = "position_timeout"


class InvalidCursorError(DomainError):
    """The cursor was not made by this list with this order; begin again without one."""

    code = "invalid_cursor"
    status = 400
