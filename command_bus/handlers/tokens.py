"""Handlers for enrollment tokens."""

from contextlib import AsyncExitStack
from datetime import timedelta

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, Clock, NewId
from command_bus.credentials import TOKEN_PREFIX, mint
from command_bus.event_log import EventLog
from command_bus.handlers.scope import visible
from command_bus.intents.tokens import CreateEnrollmentToken, RevokeEnrollmentToken
from domain.errors import InvalidValueError
from domain.ids import SiteId
from domain.sites import Site
from domain.tokens import WAIT, Approval, EnrollmentToken, EnrollmentTokenCreated, GuardedTokenCreated

DEFAULT_LIFE = timedelta(hours=24)


class TokenHandlers:
    def __init__(self, log: EventLog, clock: Clock, new_id: NewId) -> None:
        self._log = log
        self._clock = clock
        self._new_id = new_id

    async def create(self, intent: CreateEnrollmentToken, caller: Caller, _stack: AsyncExitStack) -> Decision:
        site = await visible(self._log, caller, Site, intent.site_id)
        now = self._clock()
        token = EnrollmentToken(self._new_id())
        credential = mint(TOKEN_PREFIX, token.stream_id)
        expires_at = intent.expires_at or now + DEFAULT_LIFE
        site_id, client_id = SiteId(site.stream_id), site.client_id
        created: EnrollmentTokenCreated | GuardedTokenCreated
        if intent.approval is Approval.REQUIRED:
            created = GuardedTokenCreated(
                site_id=site_id,
                client_id=client_id,
                secret_sha256=credential.secret_sha256,
                max_uses=intent.max_uses,
                expires_at=expires_at,
                wait_s=intent.wait_s or int(WAIT.total_seconds()),
                note=intent.note,
            )
        elif intent.wait_s is not None:
            raise InvalidValueError("wait_s: only with approval required; others wait for nobody.")
        else:
            created = EnrollmentTokenCreated(
                site_id=site_id,
                client_id=client_id,
                secret_sha256=credential.secret_sha256,
                max_uses=intent.max_uses,
                expires_at=expires_at,
                note=intent.note,
            )
        return Decision(
            changes=[token.create(created, now)],
            answer=id_answer(token.stream_id),
            secret={"token": credential.text},
            subject=token,
        )

    async def revoke(self, intent: RevokeEnrollmentToken, caller: Caller, _stack: AsyncExitStack) -> Decision:
        token = await visible(self._log, caller, EnrollmentToken, intent.token_id)
        return Decision(changes=[token.revoke(intent.reason)], answer=id_answer(token.stream_id), subject=token)
