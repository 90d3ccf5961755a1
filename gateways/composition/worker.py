"""The worker role."""

import shlex
from datetime import timedelta

from command_bus.audit.chain import Interval
from command_bus.audit.exporting import CheckpointExporter, Command, Destination, Folder, Webhook
from command_bus.audit.follower import ChainFollower
from command_bus.audit.leading import Leading
from command_bus.ids import utc_now
from command_bus.postgres import app_conninfo
from command_bus.worker import JobQueue, WorkerService
from gateways.composition.parts import Assembly
from gateways.forward.guard import Guard, networks
from gateways.forward.service import Forwarder
from gateways.local.jobs import all_jobs
from gateways.master_keys import master_keys
from gateways.settings import Settings, need


def build_worker(settings: Settings) -> Assembly:
    """The worker role: background jobs, and beside them what follows the log and has nobody waiting for it."""
    queue = JobQueue(need(settings.redis_url, "redis_url"), all_jobs(settings.database_url, settings))
    worker = WorkerService(queue, threads=settings.worker_threads, stop_timeout_s=settings.stop_timeout_s)
    followers = audit_followers(settings)
    guard = Guard(networks(settings.forward_allowed_networks))
    forwarder = Forwarder(settings.database_url, master_keys(settings), guard)
    return Assembly([*followers, forwarder, worker], beside=[*followers, forwarder])


def audit_followers(settings: Settings) -> list[Leading]:
    """What keeps the audit chain, and what carries its checkpoints away."""
    interval = Interval(settings.audit_checkpoint_events, timedelta(seconds=settings.audit_checkpoint_s))
    chain = ChainFollower(
        app_conninfo(settings.database_url, name="fleetlog-audit"), interval, utc_now, key_file=settings.audit_key_file
    )
    destinations = _destinations(settings)
    if not destinations:
        return [chain]
    return [chain, CheckpointExporter(app_conninfo(settings.database_url, name="fleetlog-export"), destinations)]


def _destinations(settings: Settings) -> list[Destination]:
    found: list[Destination] = []
    if settings.audit_export_dir is not None:
        found.append(Folder(settings.audit_export_dir))
    if settings.audit_export_webhook is not None:
        found.append(Webhook(settings.audit_export_webhook.get_secret_value()))
    if settings.audit_export_command is not None:
        found.append(Command(shlex.split(settings.audit_export_command)))
    return found
