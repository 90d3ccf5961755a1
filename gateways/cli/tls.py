"""``fleetlog tls``: the certificate authority that `fleetlog up` makes where none is brought."""

from datetime import UTC, datetime

from gateways.cli.options import DataDir, Json
from gateways.cli.output import Column, Output, moment


def tls_show(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Show the authorities, the one in use first, with their fingerprints."""
    import msgspec  # noqa: PLC0415

    from gateways.local.authority import Authority  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    rows = [msgspec.to_builtins(one) for one in Authority(load_settings(data_dir=data_dir).data_dir).standings()]
    columns = [
        Column("fingerprint", lambda row: row["fingerprint"]),
        Column("in use", lambda row: row["signs"]),
        Column("ends", lambda row: moment(row["ends_at"])),
    ]
    Output(as_json=as_json).rows(columns, rows, empty="There is none: `fleetlog up` makes one when it needs it.")


def tls_roll_over(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Take the next step to a new authority: announce, use, retire the old one; a running `fleetlog up` follows."""
    import msgspec  # noqa: PLC0415

    from domain.host_acts import AuthorityRolledOver  # noqa: PLC0415
    from gateways.cli.configured import conninfo_of  # noqa: PLC0415
    from gateways.cli.errors import NoPlatformError  # noqa: PLC0415
    from gateways.host import put_on_record  # noqa: PLC0415
    from gateways.local.authority import Authority  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    out = Output(as_json=as_json)
    step = Authority(load_settings(data_dir=data_dir).data_dir).roll_over(datetime.now(UTC))
    try:
        put_on_record(conninfo_of(data_dir), AuthorityRolledOver(did=step.did), out.note, needed=False)
    except NoPlatformError:
        out.note("This is not on record: no Fleetlog runs here.")
    out.done(f"{step.did}. Next, {step.next}.", msgspec.to_builtins(step))
