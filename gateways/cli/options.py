"""Options that several commands on the platform itself have."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Instead of FLEETLOG_DATA_DIR or the default.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
