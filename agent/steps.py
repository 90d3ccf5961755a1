"""Names for the moments at which being killed must do no harm.

The agent calls its `Steps` at each; in a service that is `nothing`. The fault tests hand in one that kills the process.

    received        an order was checked and is not yet on disk
    journaled       it is on disk, and its acceptance has not been said
    marked_running  the attempt is marked as running, and there is no process
    spawned         there is a process
    exited          it has ended, and its result is not on disk
    ended           the result is on disk and has not been sent
    sent            the server has answered, and that is not on disk
    acknowledged    it is all over
    check_sent      the server has heard what a check found, and that is not on disk
    key_made        the agent's next key is on disk, and nobody has heard of it
    key_offered     the server has, and takes both
    key_used        the server has let the agent in under it, and takes no other
    key_kept        it is the agent's key
    server_key_heard  which keys of the server count is known, and not on disk
    server_key_kept   it is on disk, and the server has not been told
"""

from collections.abc import Callable

Steps = Callable[[str], None]


def nothing(step: str) -> None:
    """Let it pass."""
    _ = step
