"""That the log itself was restored from a backup, as a fact in it: what came after the backup is gone from it.

Agents know better than the log then: they are asked to say once more what they have reported since (`LogRestored`'s
``made_at``), so that no result is lost with the log (invariant 6).
"""

from datetime import datetime

from domain.event import Event


class LogRestored(Event, frozen=True, kw_only=True):
    made_at: datetime
    """When the backup was made."""
    head: int
    """The last position that it holds."""
