"""What is answered to an erasure, of an agent or of a user."""

from pydantic import Field

from gateways.rest.route import Answer


class ErasedAnswer(Answer):
    """Something personal that is erased."""

    withheld: int = Field(
        description="So many events are from before there was sealing: they are shown as erased, and whoever reads the "
        "database, a backup or an export of the log still finds what they say."
    )
