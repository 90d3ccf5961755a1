"""`fleetlog archive` does from a terminal what the archive promises."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from domain.event import Recorded
from gateways.cli.program import run
from tests.archive.test_archive import segment_files


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["archive", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


async def test_run_list_verify_and_check(
    before: list[Recorded],
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a run moved is listed, verified in place and as files, and the four agree."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("FLEETLOG_ARCHIVE_DIR", str(tmp_path))
    assert told(capsys, "list") == []
    moved = told(capsys, "run", "--older-than", "0s")
    assert 0 < moved["events"] < len(before)
    [segment] = told(capsys, "list")
    assert (segment["events"], segment["file"]) == (moved["events"], str(segment_files(tmp_path)[0]))
    for found in (told(capsys, "verify"), told(capsys, "check", str(tmp_path))):
        assert found["last_manifest_sha256"] == segment["manifest_sha256"]
        assert found["events"] == moved["events"]
    assert told(capsys, "run", "--older-than", "0s")["segments"] == 0
    cut(segment_files(tmp_path)[0])
    assert run(["archive", "verify"]) == 2
    assert "archive_damaged" in capsys.readouterr().err
    assert await asyncio.to_thread(run, ["archive", "run"]) == 2  # it has a loop of its own
    assert "fleetlog retention set --archive-after-days" in capsys.readouterr().err
