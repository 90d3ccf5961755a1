"""The scheduler role."""

import contextlib
from datetime import datetime
from uuid import UUID

from command_bus.handlers.approvals import ApprovalExpiry
from command_bus.handlers.enrollments import EnrollmentExpiry
from command_bus.handlers.housekeeping import Housekeeping
from command_bus.ids import new_id, utc_now
from command_bus.postgres import app_conninfo
from command_bus.rollouts import FanOut
from command_bus.scheduler import Scheduler
from command_bus.worker import JobQueue
from gateways.agents.check_keeper import CheckKeeper
from gateways.composition.parts import Assembly, Parts
from gateways.local.jobs import all_jobs
from gateways.settings import Settings, need
from projections.approvals import due
from projections.check_reads import CheckReader
from projections.enrollments import due as enrollments_due
from projections.errors import PositionTimeoutError
from projections.pending import QueueReader
from projections.rollout_reads import RolloutReader
from projections.rollouts import Rollouts
from projections.wait import PositionWaiter


class RolloutProgress:
    """How far the read model of rollouts is.

    Args:
        waiter: knows.
    """

    def __init__(self, waiter: PositionWaiter) -> None:
        self._waiter = waiter

    def position(self) -> int:
        return self._waiter.position(Rollouts.name)

    async def wait_beyond(self, position: int, timeout_s: float) -> None:
        with contextlib.suppress(PositionTimeoutError):
            await self._waiter.wait(position + 1, [Rollouts.name], timeout_s)


def build_scheduler(settings: Settings) -> Assembly:
    """The scheduler role."""
    parts = Parts(settings, "scheduler", by_index=True)
    queue = JobQueue(need(settings.redis_url, "redis_url"), all_jobs(parts.postgres_url, settings))
    waiter = PositionWaiter(app_conninfo(parts.postgres_url, name="fleetlog-scheduler-wait"))
    rollouts = FanOut(parts.log, parts.holds, RolloutReader(parts.pool.connection), RolloutProgress(waiter), new_id)
    scheduler = Scheduler(
        parts.postgres_url,
        _housekeeping(parts),
        rollouts,
        queue.periods,
        queue.enqueue,
        utc_now,
        also={
            "undecided": _approval_expiry(parts).expire_due,
            "not_approved": _enrollment_expiry(parts).expire_due,
        },
    )
    keeper = CheckKeeper(
        parts.log, parts.pool, CheckReader(parts.pool.connection), utc_now, new_id, scheduler.leading.is_set
    )
    return Assembly([*parts.services, waiter, keeper, scheduler])


def _housekeeping(parts: Parts) -> Housekeeping:
    return Housekeeping(parts.log, parts.holds, QueueReader(parts.pool.connection), new_id)


def _approval_expiry(parts: Parts) -> ApprovalExpiry:
    async def find_due(now: datetime, limit: int) -> list[UUID]:
        async with parts.pool.connection() as connection:
            return await due(connection, now, limit)

    return ApprovalExpiry(parts.log, find_due, new_id)


def _enrollment_expiry(parts: Parts) -> EnrollmentExpiry:
    async def find_due(now: datetime, limit: int) -> list[UUID]:
        async with parts.pool.connection() as connection:
            return await enrollments_due(connection, now, limit)

    return EnrollmentExpiry(parts.log, find_due, new_id)
