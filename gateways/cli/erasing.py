"""What is said of an erasure, of an agent or of a user."""

from gateways.cli.output import Row


def erased(whose: str, answer: Row) -> str:
    """That it is done, and what of it only is hidden: events from before anything was sealed."""
    left = answer["withheld"]
    if not left:
        return f"{whose} is erased for good."
    return (
        f"{whose} is erased for good, but for {left} events from before there was sealing: they are shown as erased, "
        "and the database, backups and exports of the log still hold what they say."
    )
