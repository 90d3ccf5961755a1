"""Masks what agents report, once more: an agent masks before it writes anything, and that is not taken on trust.

Which secrets a command was handed is on record (`SecretsRead`), and so is under which ids their values are kept. A
value that was replaced while the command ran is not kept any more; of it there is the agent's own mask alone.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from msgspec import structs

from command_bus.event_log import EventLog
from command_bus.keystore import Keystore
from command_bus.master_keys import KeyServiceAwayError
from domain.secrets import SecretsRead, reads_stream
from schema import wire
from schema.masking import mask_all


class Masks:
    """Knows what is not to be seen of which command.

    Args:
        log: says which secrets were read for it.
        keystore: holds their values.
        names_none: whether a command is known to name no secret; of such the log is not asked.
    """

    def __init__(self, log: EventLog, keystore: Keystore, names_none: Callable[[UUID], bool]) -> None:
        self._log = log
        self._keystore = keystore
        self._names_none = names_none

    async def of(self, command_ids: Iterable[UUID]) -> dict[UUID, tuple[str, ...] | KeyServiceAwayError]:
        """The secrets that these commands were handed, or why nobody can tell now; most commands had none."""
        streams = {reads_stream(one): one for one in command_ids if not self._names_none(one)}
        recorded = await self._log.read_streams(list(streams), tolerant=True)
        values = {
            streams[stream_id]: {
                read.value_id for one in events if isinstance(one.event, SecretsRead) for read in one.event.secrets
            }
            for stream_id, events in recorded.items()
        }
        if not values:
            return {}
        try:
            opened = await self._keystore.open(list(set().union(*values.values())))
        except KeyServiceAwayError as error:
            return dict.fromkeys(values, error)
        texts = {value_id: value.decode() for value_id, value in opened.items() if isinstance(value, bytes)}
        return {
            command_id: tuple(sorted({texts[value_id] for value_id in ids if value_id in texts}))
            for command_id, ids in values.items()
        }


def masked(report: wire.ResultReport, secrets: Sequence[str]) -> wire.ResultReport:
    """A result without these secrets: in its outputs as far as they came along, in their ends, in its words.

    Args:
        report: one whose inline outputs are what they claim to be.
        secrets: what is not to be seen.
    """
    return structs.replace(
        report,
        stdout=_masked(report.stdout, secrets),
        stderr=_masked(report.stderr, secrets),
        detail=mask_all(secrets, report.detail.encode()).decode(errors="replace"),
    )


def _masked(stream: wire.StreamReport, secrets: Sequence[str]) -> wire.StreamReport:
    if stream.inline is None:
        return structs.replace(stream, tail=mask_all(secrets, stream.tail))
    raw = zlib.decompress(stream.inline)
    shown = mask_all(secrets, raw)
    if shown == raw:
        return structs.replace(stream, tail=mask_all(secrets, stream.tail))
    return wire.StreamReport(
        size=len(shown),
        sha256=hashlib.sha256(shown).hexdigest(),
        tail=shown[-wire.TAIL_BYTES :],
        inline=zlib.compress(shown, 1),
    )
