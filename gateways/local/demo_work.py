"""What is run on the simulated machines of `fleetlog demo --keep`, and what each of them makes of it."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateways.local.demo_machines import NEARLY_FULL, OLD_WEB, Machine
from schema import wire


class Did(msgspec.Struct, frozen=True, kw_only=True):
    """What a run comes to."""

    took_s: float = 0.4
    """Longer than its timeout: it is ended by that."""
    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""


Act = Callable[[Machine], Did]


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A script of the library."""

    name: str
    description: str
    folder: str = ""
    interpreter: str = "bash"
    platforms: tuple[str, ...] = ("linux",)
    bodies: Sequence[str]
    """Its revisions, the oldest first."""
    act: Act

    def content(self, body: str) -> dict[str, Any]:
        """A revision, as the API takes it."""
        return {"shell": self.interpreter, "body": body, "platforms": list(self.platforms), "timeout_s": 600}


def _disk_report(machine: Machine) -> Did:
    percent = machine.used_percent
    size = machine.model.disk_gib
    table = (
        "Filesystem      Size  Used Avail Use% Mounted on\n"
        f"/dev/sda1       {size}G  {size * percent // 100}G  {size * (100 - percent) // 100}G  {percent}% /\n"
    )
    full = percent > NEARLY_FULL
    return Did(stdout=table, exit_code=int(full), stderr=f"/ is {percent}% full, more than {NEARLY_FULL}%\n" * full)


def _upgrade_openssl(machine: Machine) -> Did:
    begun = "Reading package lists...\nBuilding dependency tree...\n"
    if machine.model is OLD_WEB:
        wrong = "E: Unable to correct problems, you have held broken packages.\n"
        return Did(took_s=0.8, exit_code=100, stdout=begun, stderr=wrong)
    done = (
        "The following packages will be upgraded:\n  libssl3t64 openssl\nSetting up openssl (3.0.13-0ubuntu3.1) ...\n"
    )
    return Did(took_s=1.2, stdout=begun + done)


def _backup(machine: Machine) -> Did:
    return Did(
        took_s=1.5,
        stdout=f"dumping to /var/backups/{machine.name}.tar.zst\n"
        f"{machine.model.disk_gib * machine.used_percent // 100} GiB read, done\n",
    )


def _time(machine: Machine) -> Did:
    return Did(took_s=1.0, stdout=f"{machine.name}: chrony restarted, offset +0.000{machine.number % 9 + 1} s\n")


def _defender(_machine: Machine) -> Did:
    return Did(took_s=0.9, stdout="AntivirusSignatureVersion : 1.413.48.0\nRealTimeProtectionEnabled : True\n")


SCRIPTS = (
    Script(
        name="disk-report",
        folder="Reports",
        description="How full the disks are; fails where one is nearly full.",
        bodies=(
            "df -h /\n",
            "set -eu\ndf -h /\n",
            (
                "set -eu\ndf -h /\nused=$(df --output=pcent / | tail -1 | tr -dc 0-9)\n"
                f'if [ "$used" -gt {NEARLY_FULL} ]; then\n'
                f'  echo "/ is $used% full, more than {NEARLY_FULL}%" >&2\n  exit 1\nfi\n'
            ),
        ),
        act=_disk_report,
    ),
    Script(
        name="upgrade-openssl",
        folder="Updates",
        description="The security update of this week.",
        bodies=(
            "apt-get install -y openssl\n",
            "export DEBIAN_FRONTEND=noninteractive\napt-get update -q\napt-get install -y --only-upgrade openssl\n",
        ),
        act=_upgrade_openssl,
    ),
    Script(
        name="backup",
        folder="Backup",
        description="Everything that cannot be made again, to /var/backups.",
        bodies=(
            'tar -czf "/var/backups/$(hostname).tgz" /etc /srv\n',
            (
                'set -eu\necho "dumping to /var/backups/$(hostname).tar.zst"\n'
                'tar -c /etc /srv | zstd -q -o "/var/backups/$(hostname).tar.zst"\n'
            ),
        ),
        platforms=("linux", "macos"),
        act=_backup,
    ),
    Script(
        name="set-time-server",
        folder="Settings",
        description="Points the clock at our own time server.",
        interpreter="sh",
        platforms=(),
        bodies=('sed -i "s/^pool .*/pool time.example.com iburst/" /etc/chrony/chrony.conf\nservice chrony restart\n',),
        act=_time,
    ),
    Script(
        name="defender-status",
        folder="Reports",
        description="Whether Defender is on, and how old its signatures are.",
        interpreter="powershell",
        platforms=("windows",),
        bodies=("Get-MpComputerStatus |\n  Select-Object AntivirusSignatureVersion, RealTimeProtectionEnabled\n",),
        act=_defender,
    ),
)

UPTIME = "uptime"
RESTART = "systemctl restart nginx"
REINDEX = "reindexdb --all"
LINES: dict[str, Act] = {
    UPTIME: lambda machine: Did(
        stdout=f" up {machine.number + 1} days,  2:14,  {1 if machine.user else 0} users,  load average: "
        f"0.{machine.number % 90:02d}, 0.11, 0.09\n"
    ),
    RESTART: lambda machine: (
        Did(took_s=0.6)
        if machine.model.role == "web"
        else Did(exit_code=5, stderr="Failed to restart nginx.service: Unit nginx.service not found.\n")
    ),
    REINDEX: lambda _machine: Did(took_s=3600),
}
_ACTS: dict[str, Act] = {body: script.act for script in SCRIPTS for body in script.bodies} | LINES


def done_by(machine: Machine, work: wire.Work) -> Did:
    """What a machine makes of an order; of what it has never seen, it says that nothing was really run."""
    if not isinstance(work, wire.ScriptWork):
        return Did(took_s=0.1)
    act = _ACTS.get(work.body)
    if act is None:
        return Did(stdout=f"{machine.name} is simulated, so this was not really run:\n{work.body.rstrip()}\n")
    return act(machine)
