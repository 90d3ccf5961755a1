"""Names for the moments of a delivery at which a gateway may be killed, or stopped for as long as one likes.

It calls its `Steps` at each; in a service that is `nothing`. The fault tests hand in one that ends or stops it.

    leased     the lease is committed, and nothing was sent under it
    answered   the agent has answered, and that is not on record
    recorded   what it answered is on record, and the lease is not settled
    settled    the lease is settled
    reported   results have come in, and are not on record
    committed  they are on record, and the agents have not been told
"""

from collections.abc import Callable

Steps = Callable[[str], None]


def nothing(step: str) -> None:
    """Let it pass."""
    _ = step
