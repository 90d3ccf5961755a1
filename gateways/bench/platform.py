"""A whole Fleetlog for a bench: `fleetlog up` as users run it, in a temporary folder, and a client that costs little.

The HTTP client is a few lines over asyncio streams, since a full one would spend more of the two cores than the API.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from gateways.local import platform_file
from gateways.local.first_steps import PROFILE
from gateways.local.platform_file import Platform
from gateways.local.server import free_port
from gateways.local.servers import temporary_folder

READY_S = 90.0
STOP_S = 30.0


class NotReadyError(Exception):
    """The platform did not come up; its log says why."""


class Running(msgspec.Struct, frozen=True):
    """A platform, and a key of an administrator."""

    platform: Platform
    key: str
    folder: Path
    pid: int
    """Of `fleetlog up`; roles and servers are its children."""


@contextlib.asynccontextmanager
async def running_platform(**settings: str) -> AsyncIterator[Running]:
    """`fleetlog up` in a folder of its own for as long as the context is open.

    Args:
        settings: further environment variables.

    Raises:
        NotReadyError: it did not become ready within 90 s.
    """
    folder = temporary_folder("fleetlog-bench-")
    folder.chmod(0o711)  # where root runs it, the servers' own account must reach the data in it
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETLOG_")}
    environment |= {"FLEETLOG_LISTEN_PORT": str(free_port("127.0.0.1")), "FLEETLOG_LOG_LEVEL": "warning"} | settings
    log = (folder / "up.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateways.cli", "up", "--data-dir", str(folder / "data"),
        env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        yield await _ready(process, folder)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


async def _ready(process: asyncio.subprocess.Process, folder: Path) -> Running:
    deadline = asyncio.get_running_loop().time() + READY_S
    while asyncio.get_running_loop().time() < deadline and process.returncode is None:
        await asyncio.sleep(0.1)
        platform = platform_file.read(folder / "data")
        if platform is None:
            continue
        profile = json.loads((folder / "data" / PROFILE).read_text())
        with contextlib.suppress(OSError, EOFError):
            async with Http(platform.api_url, profile["key"]) as http:
                status, _, body = await http.send("GET", "/readyz")
                # What the first start made can be read once the projector has come to it.
                if status == 200 and msgspec.json.decode(body)["checks"]["projector"].get("lag") == 0:  # noqa: PLR2004 -- HTTP's own number
                    return Running(platform, profile["key"], folder, process.pid)
    raise NotReadyError((folder / "up.log").read_text(errors="replace")[-4000:])


class Http:
    """One kept-alive HTTP/1.1 connection.

    Args:
        url: of the API.
        key: an API key.
    """

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = f"Host: {self._host}:{self._port}\r\nAuthorization: Bearer {key}\r\n"

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """One request: status, headers in lower case, body. Answers must carry a Content-Length, as the API's do."""
        content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}{content}\r\n".encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return (
            int(head[0].split(" ")[1]),
            headers,
            await self._reader.readexactly(int(headers.get("content-length", 0))),
        )

    async def json(self, method: str, path: str, body: object = None) -> Any:
        """The same for JSON both ways.

        Raises:
            NotReadyError: the answer is an error.
        """
        status, _, data = await self.send(method, path, b"" if body is None else msgspec.json.encode(body))
        if status >= 400:  # noqa: PLR2004 -- HTTP's own number
            raise NotReadyError(f"{method} {path}: {status} {data.decode(errors='replace')[:500]}")
        return msgspec.json.decode(data) if data else None
