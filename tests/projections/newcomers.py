"""Machines that come by a token that asks for approval, beside everything else that happens to a fleet."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.agents import Agent, Platform
from domain.enrollments import EnrollmentRequested, EnrollmentState, WaitingEnrollment
from domain.event import Change
from domain.ids import AgentId, SiteId, TokenId
from domain.sites import Site
from domain.tokens import EnrollmentToken, GuardedTokenCreated


class Newcomers:
    """Makes one event after the other.

    Args:
        seed: the same seed gives the same; nothing of it changes what else a seed gives.
        now: of all of them.
        names: of machines.
    """

    def __init__(self, seed: int, now: datetime, names: tuple[str, ...]) -> None:
        self._random = random.Random(f"newcomers {seed}")
        self._now = now
        self._later = now + timedelta(days=20)
        self._names = names
        self.tokens: list[EnrollmentToken] = []
        self.waiting: list[WaitingEnrollment] = []
        self.agents: list[Agent] = []

    def now_and_then(self, sites: list[Site]) -> list[Change]:
        """Something, or nothing."""
        if self._random.random() >= 0.07:
            return []
        site = self._random.choice(sites)
        open_ = [token for token in self.tokens if not token.revoked and token.uses < token.max_uses]
        if not open_ or self._random.random() < 0.2:
            return [self._token(site)]
        token = self._random.choice(open_)
        if self._random.random() < 0.1:
            return [token.revoke("leaked")]
        waiting = [one for one in self.waiting if one.state is EnrollmentState.WAITING]
        if not waiting or self._random.random() < 0.5:
            return [self._machine(token)]
        one = self._random.choice(waiting)
        choices: list[Callable[[], list[Change]]] = [
            lambda: self._approve(one),
            lambda: [one.refuse("not ours", self._now)],
            lambda: one.expire(self._later, token_revoked=False),
            lambda: one.expire(self._now, token_revoked=True),
        ]
        return self._random.choice(choices)()

    def _id(self) -> Any:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _token(self, site: Site) -> Change:
        token = EnrollmentToken(self._id())
        self.tokens.append(token)
        created = GuardedTokenCreated(
            site_id=SiteId(site.stream_id),
            client_id=site.client_id,
            secret_sha256="00" * 32,
            max_uses=self._random.randint(1, 5),
            expires_at=self._later,
            wait_s=3600,
        )
        return token.create(created, self._now)

    def _machine(self, token: EnrollmentToken) -> Change:
        one = WaitingEnrollment(self._id())
        self.waiting.append(one)
        return one.request(
            EnrollmentRequested(
                agent_id=AgentId(self._id()),
                token_id=TokenId(token.stream_id),
                site_id=token.site_id,
                client_id=token.client_id,
                hostname=self._random.choice(self._names),
                platform=Platform.LINUX,
                arch="x86_64",
                agent_version="1.0",
                public_key="ab" * 32,
                address="192.0.2.7",
                expires_at=self._later,
            )
        )

    def _approve(self, one: WaitingEnrollment) -> list[Change]:
        (token,) = [token for token in self.tokens if token.stream_id == one.requested.token_id]
        if token.revoked or token.uses >= token.max_uses:
            return one.expire(self._now, token_revoked=token.revoked)
        agent = Agent(one.requested.agent_id)
        self.agents.append(agent)
        admitted = token.admit(one.requested.agent_id)
        return [one.approve("ours", self._now), admitted, agent.enroll(one.enrolled())]
