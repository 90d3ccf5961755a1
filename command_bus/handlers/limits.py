"""How many agents one action may touch: as many as the roles say that allow it, or as another person has allowed."""

from collections.abc import Sequence
from uuid import UUID

from command_bus.approving import NeedsApprovalError, asks_for_another
from command_bus.context import Caller
from command_bus.touches import Touches
from domain.errors import TooManyAgentsError
from domain.permissions import Permission
from domain.scopes import Scope

BY_COMMANDS = 10


def must_touch(caller: Caller, needs: Sequence[Permission], agents: int | None, over: Scope) -> None:
    """Refuse what touches too many agents, or have it wait for another person.

    Args:
        caller: whose roles say how many.
        needs: the permissions of the action.
        agents: how many it would touch; None where nobody knows, since more may join.
        over: where they are.

    Raises:
        TooManyAgentsError: more than these roles let one action touch, or than was allowed.
        NeedsApprovalError: it has to wait.
        FreshProofNeededError: a person is to show once more that it is them.
    """
    caller.must_be_fresh_to_touch(agents)
    limits = caller.access.limits(*needs, over=over)
    touched = "agents that may join are not counted beforehand" if agents is None else f"it would touch {agents}"
    if _beyond(limits.max_agents, agents):
        raise TooManyAgentsError(f"Your roles let one action touch {limits.max_agents} agents at the most; {touched}.")
    if caller.allowed is not None:
        if agents is not None and _beyond(caller.allowed.agents, agents):
            raise TooManyAgentsError(f"{caller.allowed.agents} agents were allowed; now {touched}: ask again.")
        return
    if _beyond(limits.approval_above, agents):
        raise NeedsApprovalError(
            f"{touched}, and your roles ask for another person above {limits.approval_above}", agents
        )
    if why := asks_for_another(caller, needs, over):
        raise NeedsApprovalError(why, agents)


async def must_touch_one(
    touches: Touches,
    caller: Caller,
    needs: Sequence[Permission],
    agent_id: UUID,
    over: Scope,
    *,
    commands: bool = False,
) -> None:
    """The same of one agent, with all others that its caller has touched so within the hour: a loop is one action.

    Args:
        touches: counts them. Whoever is held to no cap is not counted.
        caller: whose roles say how many.
        needs: the permissions of the action.
        agent_id: which it would touch.
        over: where that is.
        commands: it is given a command. These count by themselves, and `BY_COMMANDS` times as many may be touched so:
            who helps people works machine by machine, and yet a loop over the fleet is to come to an end.

    Raises:
        TooManyAgentsError: with it there are more than these roles let one action touch.
        NeedsApprovalError: it has to wait.
        FreshProofNeededError: a person is to show once more that it is them.
    """
    limits = caller.access.limits(*needs, over=over)
    held = limits.max_agents is not None or limits.approval_above is not None or caller.freshness is not None
    if caller.allowed is not None or not held:
        return
    # By the person, however many keys they have.
    who = f"user:{caller.user_id}" if caller.user_id is not None else caller.actor
    leeway = BY_COMMANDS if commands else 1
    agents = await touches.touched(f"{who} commands" if commands else who, agent_id)
    caller.must_be_fresh_to_touch(-(-agents // leeway))
    touched = f"with this one you have asked to touch {agents} within an hour, one by one"
    by_commands = f" (by single commands {BY_COMMANDS} times as many)" if commands else ""
    if _beyond(limits.max_agents, agents, leeway):
        raise TooManyAgentsError(
            f"Your roles let one action touch {limits.max_agents} agents at the most{by_commands}; {touched}, and that "
            "counts as one. Wait, or have somebody do it who may."
        )
    if _beyond(limits.approval_above, agents, leeway):
        raise NeedsApprovalError(
            f"{touched}, and your roles ask for another person above {limits.approval_above}{by_commands}", agents
        )


def _beyond(most: int | None, agents: int | None, leeway: int = 1) -> bool:
    return most is not None and (agents is None or agents > most * leeway)
