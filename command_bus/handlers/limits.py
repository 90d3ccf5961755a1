"""How many agents one action may touch: as many as the roles say that allow it."""

from collections.abc import Sequence

from command_bus.context import Caller
from domain.errors import TooManyAgentsError
from domain.permissions import Permission


def must_touch(caller: Caller, needs: Sequence[Permission], agents: int | None) -> None:
    """Refuse what touches too many agents.

    Args:
        caller: whose roles say how many.
        needs: the permissions of the action.
        agents: how many it would touch; None where nobody knows, since more may join.

    Raises:
        TooManyAgentsError: more than these roles let one action touch.
    """
    most = caller.access.limits(*needs).max_agents
    if most is None or (agents is not None and agents <= most):
        return
    touched = "agents that may join are not counted beforehand" if agents is None else f"it would touch {agents}"
    raise TooManyAgentsError(f"Your roles let one action touch {most} agents at the most; {touched}.")
