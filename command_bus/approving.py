"""When a request has to wait for another person, and how it is kept meanwhile."""

from collections.abc import Sequence

from command_bus.context import Caller
from domain.permissions import Permission
from domain.scopes import Scope


class NeedsApprovalError(Exception):
    """The caller's roles ask for another person. It never leaves the bus.

    Args:
        why: in words.
        agents: how many it would touch; None where that is not what counts, or nobody knows.
    """

    def __init__(self, why: str, agents: int | None = None) -> None:
        self.why = why
        self.agents = agents
        super().__init__(why)


def asks_for_another(caller: Caller, needs: Sequence[Permission], over: Scope) -> str:
    """Why each use of one of these waits for another person, there; empty where it does not."""
    if caller.allowed is not None:
        return ""
    for permission in needs:
        if permission in caller.access.limits(permission, over=over).approval_for:
            return f"your roles ask for another person wherever {permission} is used"
    return ""
