"""Verify a log or check a proof, with nothing of Fleetlog but this package: `python -m schema.audit`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from schema.audit.checkpoints import AuditError, read_outside
from schema.audit.proofs import check_proof, decode_proof
from schema.audit.verify import verify_database, verify_export

DIFFERS, FAILED = 1, 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m schema.audit", description="Verify Fleetlog's audit chain.")
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="a database or an export against its chain")
    place = verify.add_mutually_exclusive_group(required=True)
    place.add_argument("--postgres", metavar="URL", help="a login that may read the log")
    place.add_argument("--export", metavar="FILE", type=Path, help="written by `fleetlog audit export`")
    verify.add_argument("--since", type=int, default=0, metavar="POSITION", help="begin at the checkpoint before it")
    verify.add_argument("--checkpoint", type=Path, metavar="PATH", help="exported checkpoints: a file, or a folder")
    check = commands.add_parser("check", help="the proof of one event")
    check.add_argument("proof", metavar="FILE", type=Path)
    for command in (verify, check):
        command.add_argument("--key", action="append", default=[], metavar="HEX", help="a public key that is trusted")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0: as recorded, 1: it is not, 2: it could not be looked at."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "check":
            print(msgspec.json.encode(check_proof(decode_proof(given.proof.read_bytes()), given.key)).decode())  # noqa: T201 - its result
            return 0
        outside = read_outside(given.checkpoint) if given.checkpoint is not None else []
        report = (
            verify_export(given.export, outside, given.key)
            if given.export is not None
            else verify_database(given.postgres, given.since, outside, given.key)
        )
    except (AuditError, OSError) as error:
        print(f"{getattr(error, 'code', 'unusable_file')}: {error}", file=sys.stderr)  # noqa: T201 - one line
        return FAILED
    print(msgspec.json.encode(report).decode())  # noqa: T201 - its result
    return 0 if report.ok else DIFFERS


if __name__ == "__main__":
    sys.exit(main())
