"""Made-up requests against the document: whatever is sent, the answer is one that the document foresees."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rest.harness import Api, Fleet

BUDGET_S = 300
HERE = Path(__file__).parent
ENDLESS = "/(stream|live)$"
FLEET = "/(agents|clients|sites)"
PEOPLE = "/(users|roles|sessions?|api-keys|approvals|views)"
WORK = "/(rollouts|commands)"
MADE = "/(scripts|fields|secrets|checks|enrollment-tokens|tokens)"
"""Several parts of about the same length, for several processes."""


@pytest.mark.parametrize(
    ("phase", "paths"),
    [
        ("coverage", [f"--include-path-regex={FLEET}", f"--exclude-path-regex={ENDLESS}"]),
        ("coverage", [f"--include-path-regex={PEOPLE}", f"--exclude-path-regex={FLEET}|{ENDLESS}"]),
        ("coverage", [f"--include-path-regex={WORK}", f"--exclude-path-regex={FLEET}|{PEOPLE}|{ENDLESS}"]),
        ("coverage", [f"--include-path-regex={MADE}", f"--exclude-path-regex={FLEET}|{PEOPLE}|{WORK}|{ENDLESS}"]),
        ("coverage", [f"--exclude-path-regex={FLEET}|{PEOPLE}|{WORK}|{MADE}|{ENDLESS}"]),
        ("fuzzing", [f"--exclude-path-regex={ENDLESS}"]),
    ],
    ids=[
        *("coverage of the fleet", "coverage of people", "coverage of work", "coverage of what is made"),
        *("coverage of the rest", "fuzzing"),
    ],
)
async def test_the_server_keeps_its_document(
    api: Api, fleet: Fleet, phase: str, paths: list[str], tmp_path: Path
) -> None:
    """schemathesis, valid and invalid data, on every route but the endless ones: no check fails."""
    await fleet.command(await fleet.agent())
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"{api.url}/openapi.json",
        f"--header=Authorization: Bearer {api.admin_key}",
        f"--phases={phase}",
        "--max-examples=4",
        "--request-timeout=10",
        *paths,
        "--suppress-health-check=all",
        "--seed=1",
        "--no-color",
    ]
    environment = {**os.environ, "NO_PROXY": "*", "PYTHONPATH": str(HERE.parents[1])}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    async with asyncio.timeout(BUDGET_S):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-8000:]
