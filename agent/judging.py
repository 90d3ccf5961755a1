"""What measurements come to: when a check's state changes, and to what.

It changes once so many measurements in a row are worse than it, or so many are better. It becomes what all of these
agree on: of worse ones the mildest, of better ones the gravest. So no single measurement decides where several are
asked for, whichever states they hop between. Pure: no clock and no disk.
"""

from datetime import datetime

import msgspec

from schema.checks import STATES

PASSING = STATES[0]
GRAVITY = {state: gravity for gravity, state in enumerate(STATES)}


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check as it stands, and the measurements in a row that speak against that."""

    state: str | None = None
    """None: nothing counts yet."""
    since: datetime | None = None
    """The first measurement of those that made it so."""
    against: int = 0
    """So many in a row say something else."""
    worse: bool = False
    """Whether that is worse."""
    agreed: str | None = None
    """What these agree on."""
    against_since: datetime | None = None


def judged(standing: Standing, found: str, at: datetime, *, failures: int, recoveries: int) -> Standing:
    """A check's standing after one more measurement.

    Args:
        standing: before it.
        found: what it says by itself.
        at: when it was made.
        failures: so many worse ones in a row count.
        recoveries: so many better ones do.
    """
    if standing.state is None and found == PASSING:
        return Standing(state=found, since=at)
    if found == standing.state:
        return Standing(state=standing.state, since=standing.since)
    worse = GRAVITY[found] > GRAVITY[standing.state or PASSING]
    goes_on = standing.agreed is not None and standing.against_since is not None and worse is standing.worse
    against = standing.against + 1 if goes_on else 1
    since = standing.against_since if goes_on and standing.against_since is not None else at
    agreed = found
    if goes_on and standing.agreed is not None:
        agreed = (min if worse else max)(found, standing.agreed, key=GRAVITY.__getitem__)
    if against >= (failures if worse else recoveries):
        return Standing(state=agreed, since=since)
    return Standing(
        state=standing.state,
        since=standing.since,
        against=against,
        worse=worse,
        agreed=agreed,
        against_since=since,
    )
