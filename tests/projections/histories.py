"""Histories of a fleet that could have happened: every event is decided by its aggregate."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from domain import rollout_terms
from domain.access import Grant
from domain.agents import (
    Agent,
    AgentConnected,
    AgentDisconnected,
    AgentEnrolled,
    AgentFactsReported,
    AgentState,
    Platform,
    facts_stream,
    presence_stream,
)
from domain.api_keys import ApiKey, ApiKeyCreated
from domain.approvals import Approval, ApprovalRequested, ApprovalState
from domain.checks import (
    AgentCheckChanged,
    AgentCheckEnded,
    Check,
    CheckState,
    CheckTerms,
    DiskCheck,
    agent_check_stream,
)
from domain.clients import Client
from domain.commands import (
    Command,
    CommandQueued,
    CommandState,
    Ping,
    Result,
    RetryPolicy,
    RunScript,
    RunShell,
    Spec,
    Stream,
)
from domain.destinations import Destination, EventFilter, Syslog, Webhook
from domain.destinations import Terms as DestinationTerms
from domain.errors import NothingToRetryError
from domain.event import Change, Event, Metadata
from domain.fields import Field, FieldKind, FieldTerms, FieldValues, Holder, field_stream, values_stream
from domain.hours import Hours
from domain.ids import AgentId, CheckId, ClientId, ScriptId, SiteId, UserId
from domain.patches import Patched, UpdateOutcome
from domain.permissions import Permission
from domain.roles import CustomRole, Limits, Role
from domain.rollout_events import RolloutStarted, Skip
from domain.rollout_terms import Joins, Order, Selector, Target, Wave
from domain.rollouts import Rollout, Tally, command_id
from domain.scopes import EVERYTHING, Place
from domain.scopes import Scope as AccessScope
from domain.scripts import Revision, Script, Shell
from domain.secrets import Scope, Secret, secret_stream
from domain.sites import Site
from domain.software import AgentSoftwareReported, software_stream
from domain.tokens import EnrollmentToken, EnrollmentTokenCreated
from domain.users import User, UserCreated, UserKind
from domain.views import View, ViewTerms
from tests.projections.newcomers import Newcomers

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=20)
NAMES = ("Acme", "acme", "Ärzte", "straße", "Z\u00e9ro", "日本", "a'b\"c\\d", "%_", "x" * 200)
OUTPUTS = ("", "ok", "nul \x00 in it", "\\u0000 spelled out", "emoji 🚀", "tab\t and \n line")
ENDINGS = tuple(state for state in CommandState if state.terminal and state is not CommandState.REJECTED)


PATCHED = Patched(
    updates=(UpdateOutcome(name="nginx", version="1.24", outcome="failed", why="E: 'ü'"),), more=3, installed=3
)


class Fleet:
    """Makes one event after the other.

    Args:
        seed: the same seed gives the same history.
        rollouts: how much more often than usual something happens to rollouts.
        erases: whether somebody is erased now and then, which changes what is seen of the past.
    """

    def __init__(self, seed: int, *, rollouts: int = 1, erases: bool = True) -> None:
        self._erases = erases
        self._random = random.Random(seed)
        # Apart, so that they change nothing of what a seed gives otherwise; and named apart, since several fleets may
        # be recorded in one log.
        self._apart = random.Random(f"apart {seed}")
        self._beside = random.Random(f"beside {seed}")
        self._mark = f"{self._apart.getrandbits(48):x}"
        self.clients: list[Client] = []
        self.sites: list[Site] = []
        self.agents: list[Agent] = []
        self.scripts: list[Script] = []
        self.commands: list[Command] = []
        self.rollouts: list[Rollout] = []
        self.tokens: list[EnrollmentToken] = []
        self.newcomers = Newcomers(seed, NOW, NAMES)
        self.keys: list[ApiKey] = []
        self.users: list[User] = []
        self.roles: list[CustomRole] = []
        self.requests: list[Approval] = []
        self.secrets: dict[UUID, Secret] = {}
        self.destinations: list[Destination] = []
        self.views: list[View] = []
        self.checks: list[Check] = []
        self.fields: dict[UUID, Field] = {}
        self.filled: dict[UUID, FieldValues] = {}
        self._told: dict[UUID, int] = {}
        self._steps: list[tuple[Callable[[], list[Change]], int]] = [
            (self.new_client, 1),
            (self.new_site, 1),
            (self.new_agent, 3),
            (self._change_agent, 3),
            (self._tell, 4),
            (self._script, 2),
            (self.queue, 8),
            (self._go_on, 20),
            (self._start_rollout, rollouts),
            (self._go_on_with_rollout, 6 * rollouts),
            (self._token, 2),
            (self._key, 1),
            (self._person, 2),
            (self._role, 1),
            (self._request, 2),
            (self._rename, 1),
        ]

    def history(self, steps: int) -> Iterator[list[Change]]:
        """Changes that belong to one append each."""
        yield self.new_client()
        yield self.new_site()
        yield self.new_agent()
        choices, weights = zip(*self._steps, strict=True)
        for step in self._random.choices(choices, weights, k=steps):
            changes = step()
            if changes:
                yield changes
            if self._apart.random() < 0.05 and (apart := self._one_apart()):
                yield apart
            if self._erases and self._apart.random() < 0.05 and (erased := self.erase()):
                yield erased
            if self._beside.random() < 0.05 and (
                beside := self._beside.choice([self._view, self._prioritise, self._check, self._find, self._find])()
            ):
                yield beside
            if newcomer := self.newcomers.now_and_then(self.sites):
                yield newcomer

    def _one_apart(self) -> list[Change]:
        return self._apart.choice([self._secret, self._field, self._destination])()

    def id(self) -> Any:
        return UUID(int=self._random.getrandbits(128), version=4)

    def metadata(self) -> Metadata:
        return Metadata(actor=f"key:{self.id()}", correlation_id=self.id())

    # -- what exists ---------------------------------------------------------------------------------------------

    def new_client(self) -> list[Change]:
        client = Client(self.id())
        self.clients.append(client)
        return [client.create(self._random.choice(NAMES))]

    def new_site(self, client: Client | None = None) -> list[Change]:
        site = Site(self.id())
        self.sites.append(site)
        client = client or self._random.choice(self.clients)
        return [site.create(ClientId(client.stream_id), self._random.choice(NAMES))]

    def new_agent(self, site: Site | None = None, hostname: str | None = None) -> list[Change]:
        site = site or self._random.choice(self.sites)
        agent = Agent(self.id())
        self.agents.append(agent)
        enrolled = AgentEnrolled(
            site_id=SiteId(site.stream_id),
            client_id=site.client_id,
            token_id=None,
            hostname=hostname or self._random.choice(NAMES),
            platform=self._random.choice(list(Platform)),
            arch="x86_64",
            agent_version="1.0",
            public_key=f"{self._random.getrandbits(256):064x}",
        )
        return [agent.enroll(enrolled)]

    def _rename(self) -> list[Change]:
        one = self._random.choice([*self.clients, *self.sites])
        return [one.rename(self._random.choice(NAMES))]

    def _change_agent(self) -> list[Change]:
        agent = self._random.choice(self.agents)
        if agent.state is AgentState.RETIRED:
            return []
        site = self._random.choice(self.sites)
        changes: list[Callable[[], Change]] = [
            lambda: agent.move(SiteId(site.stream_id), site.client_id),
            lambda: agent.rename(self._random.choice(NAMES)),
            lambda: agent.tag(self._random.sample(["web", "db", "prod", "ünï"], self._random.randint(0, 3))),
        ]
        if agent.state is AgentState.SUSPENDED:
            changes += [lambda: agent.resume("back"), lambda: agent.retire("gone")]
        else:
            changes.append(lambda: agent.suspend("audit"))
        return [self._random.choice(changes)()]

    def _tell(self) -> list[Change]:
        agent = self._random.choice(self.agents)
        told: list[tuple[UUID, Event]] = [
            (presence_stream(AgentId(agent.stream_id)), AgentConnected(gateway="g1", address="10.0.0.1")),
            (presence_stream(AgentId(agent.stream_id)), AgentDisconnected(gateway="g1", reason="gone")),
            (facts_stream(AgentId(agent.stream_id)), AgentFactsReported(facts=self._facts())),
            (software_stream(AgentId(agent.stream_id)), self._software()),
        ]
        stream_id, event = self._random.choice(told)
        self._told[stream_id] = version = self._told.get(stream_id, 0) + 1
        return [Change(stream_id, version, event, agent.stream_id, agent.client_id)]

    def _software(self) -> AgentSoftwareReported:
        sha256, updates = f"{self._random.getrandbits(256):064x}", self._random.choice([None, 0, 7])
        changes = {"changed": {"bash": ["5.1", "5.2"]}}
        return AgentSoftwareReported(
            sha256=sha256, packages=9, updates=updates, security_updates=updates, changes=changes
        )

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "os": self._random.choice([*OUTPUTS, None, 7]),
            "hostname": self._random.choice([*NAMES, "nul\x00host"]),
            "agent_version": "1.1",
            "memory": {"total_bytes": 2**63, "free": [1.5, None, True, "a\x00b"]},
            "key\x00": "value",
        }
        return {name: facts[name] for name in self._random.sample(sorted(facts), self._random.randint(0, len(facts)))}

    def _script(self) -> list[Change]:
        if not self.scripts or self._random.random() < 0.3:
            script = Script(self.id())
            self.scripts.append(script)
            return [script.create(self._random.choice(NAMES), "what it does"), self._revise(script)]
        script = self._random.choice(self.scripts)
        if script.archived:
            return [script.restore()]
        choices: list[Callable[[], Change]] = [
            lambda: self._revise(script),
            lambda: script.rename(self._random.choice(NAMES), ""),
            script.archive,
        ]
        return [self._random.choice(choices)()]

    def _revise(self, script: Script) -> Change:
        env = dict.fromkeys(self._random.sample("ZYXABC", 3), "1")
        return script.revise(Revision(shell=Shell.BASH, body="echo 1", env=env, platforms=(Platform.LINUX,)))

    def _token(self) -> list[Change]:
        usable = [token for token in self.tokens if not token.revoked and token.uses < token.max_uses]
        if not usable or self._random.random() < 0.3:
            site, token = self._random.choice(self.sites), EnrollmentToken(self.id())
            self.tokens.append(token)
            created = EnrollmentTokenCreated(
                site_id=SiteId(site.stream_id),
                client_id=site.client_id,
                secret_sha256="00" * 32,
                max_uses=self._random.randint(1, 5),
                expires_at=LATER,
            )
            return [token.create(created, NOW)]
        token = self._random.choice(usable)
        return [token.revoke("lost") if self._random.random() < 0.2 else token.use(self.id(), NOW)]

    def _key(self) -> list[Change]:
        key = ApiKey(self.id())
        one_of = (Grant(role_id=Role.OPERATOR.id, clients=self._some_clients()),)
        created = ApiKeyCreated(
            name="ops",
            secret_sha256="11" * 32,
            grants=self._random.choice([(Grant(role_id=Role.OPERATOR.id, everything=True),), one_of, (), None]),
            owner_id=self._random.choice([None, self.users[0].stream_id]) if self.users else None,
            expires_at=self._random.choice([None, LATER]),
        )
        changes = [key.create(created, NOW)]
        if self._random.random() < 0.3:
            changes.append(key.revoke("left"))
        self.keys.append(key)
        return changes

    def _some_clients(self) -> tuple[ClientId, ...]:
        return tuple(ClientId(client.stream_id) for client in self.clients[: self._random.randint(1, 3)])

    def _person(self) -> list[Change]:
        site = self._random.choice(self.sites)
        place = Place(SiteId(site.stream_id), site.client_id)
        role = self._random.choice([Role.HELPDESK.id, *(role.stream_id for role in self.roles)])
        grants = self._random.choice(
            [(), (Grant(role_id=role, sites=(place,)), Grant(role_id=role, clients=self._some_clients()))]
        )
        if not self.users or self._random.random() < 0.3:
            user = User(self.id())
            self.users.append(user)
            kind, name = self._random.choice(list(UserKind)), self._random.choice(NAMES)
            return [user.create(UserCreated(kind=kind, name=name, email="ada@example.com", grants=grants))]
        user = self._random.choice(self.users)
        if user.erased:
            return []
        steps: list[Callable[[], Change]] = [
            lambda: user.change(self._random.choice(NAMES), ""),
            lambda: user.grant(grants),
            lambda: user.apply_groups("https://login.example.com", grants),
            lambda: user.enable("back") if user.disabled else user.disable("left"),
        ]
        return [self._random.choice(steps)()]

    def _request(self) -> list[Change]:
        waiting = [one for one in self.requests if one.state is ApprovalState.WAITING]
        if not waiting or self._random.random() < 0.4:
            approval = Approval(self.id())
            self.requests.append(approval)
            requested = ApprovalRequested(
                intent="StartRollout",
                request={"name": self._random.choice(NAMES)},
                why="it would touch 7",
                agents=self._random.choice([None, 7]),
                user_id=self._random.choice([None, UserId(self.id())]),
                actor="key:x",
                client_ids=self._random.choice([None, self._some_clients()]),
                expires_at=LATER,
            )
            return [approval.request(requested)]
        approval = self._random.choice(waiting)
        steps: list[Callable[[], list[Change]]] = [
            lambda: [approval.grant(UserId(self.id()), "fine", NOW)],
            lambda: [approval.refuse(UserId(self.id()), "no", NOW)],
            lambda: [approval.withdraw("", NOW)],
            lambda: approval.expire(LATER),
        ]
        return self._random.choice(steps)()

    @staticmethod
    def _retry(rollout: Rollout, failed: list[tuple[AgentId, int]]) -> list[Change]:
        try:
            return rollout.retry(failed, "again")
        except NothingToRetryError:  # all of them have had a later round since
            return []

    def _role(self) -> list[Change]:
        some = frozenset(self._random.sample(list(Permission), 4))
        limits = self._random.choice(
            [Limits(), Limits(max_agents=7), Limits(approval_above=1, approval_for=("keys.manage",))]
        )
        open_ = [role for role in self.roles if not role.retired]
        if not open_ or self._random.random() < 0.3:
            role = CustomRole(self.id())
            self.roles.append(role)
            return [role.create(self._random.choice(NAMES), some, limits)]
        role = self._random.choice(open_)
        return [role.retire("old") if self._random.random() < 0.2 else role.change("dusk", some, limits)]

    def _secret(self) -> list[Change]:
        """A few names, so that secrets are set again, removed, and set once more."""
        client, agent = self._apart.choice(self.clients), self._apart.choice(self.agents)
        scope = self._apart.choice(
            [
                Scope(),
                Scope(client_id=ClientId(client.stream_id)),
                Scope(client_id=agent.client_id, agent_id=AgentId(agent.stream_id)),
            ]
        )
        name = self._apart.choice([f"Db_{self._mark}", f"TOKEN_{self._mark}"])
        stream_id = secret_stream(name, scope.holder)
        secret = self.secrets.setdefault(stream_id, Secret(stream_id))
        if secret.value_id is not None and self._apart.random() < 0.3:
            return [secret.remove("old")]
        return [
            secret.put(
                name,
                secret.scope if secret.exists else scope,
                UUID(int=self._apart.getrandbits(128), version=4),
                self._apart.choice(OUTPUTS),
            )
        ]

    def _prioritise(self) -> list[Change]:
        waiting = [one for one in self.commands if one.state is CommandState.QUEUED]
        return self._beside.choice(waiting).prioritise(self._beside.randrange(10), in_flight=False) if waiting else []

    def _view(self) -> list[Change]:
        terms = ViewTerms(
            name=self._beside.choice(NAMES), query="os:linux", sort="-seen", columns=("name", "seen"), shared=True
        )
        open_ = [one for one in self.views if not one.removed]
        if not open_ or self._beside.random() < 0.4:
            view = View(UUID(int=self._beside.getrandbits(128), version=4))
            self.views.append(view)
            return [view.save("user:ada", terms)]
        view = self._beside.choice(open_)
        return [view.remove() if self._beside.random() < 0.3 else view.save("user:ada", terms)]

    def _check(self) -> list[Change]:
        target = Target(include=Selector(everything=True))
        terms = CheckTerms(
            name=self._beside.choice(NAMES), what=DiskCheck(error=self._beside.choice([5, 7.5])), target=target
        )
        open_ = [one for one in self.checks if not one.removed]
        if not open_ or self._beside.random() < 0.4:
            check = Check(UUID(int=self._beside.getrandbits(128), version=4))
            self.checks.append(check)
            return [check.define(terms, self._beside.choice([EVERYTHING, AccessScope.of([self.clients[0].stream_id])]))]
        check = self._beside.choice(open_)
        if self._beside.random() < 0.3:
            return [check.remove("old")]
        if self._beside.random() < 0.5:
            return [check.enable() if check.disabled else check.disable("for now")]
        return [check.define(terms, check.defined.scope)]

    def _find(self) -> list[Change]:
        """What a check finds on an agent, or that it is over."""
        if not self.checks:
            return []
        agent, check = self._beside.choice(self.agents), self._beside.choice(self.checks)
        check_id = CheckId(check.stream_id)
        stream_id = agent_check_stream(AgentId(agent.stream_id), check_id)
        self._told[stream_id] = version = self._told.get(stream_id, 0) + 1
        name = check.defined.terms.name
        found: Event = AgentCheckChanged(
            check_id=check_id,
            check=name,
            revision=1,
            was=None,
            state=self._beside.choice([CheckState.FAILING, CheckState.WARNING, CheckState.PASSING]),
            value=self._beside.choice([None, 4.5]),
            unit="% free",
            since=NOW,
            number=version,
            detail="nul \x00 in it",
        )
        if version > 1 and self._beside.random() < 0.3:
            found = AgentCheckEnded(check_id=check_id, check=name, was=CheckState.FAILING)
        return [Change(stream_id, version, found, agent.stream_id, agent.client_id)]

    def _destination(self) -> list[Change]:
        webhook = Webhook(url="https://example.com/hook", batch=self._apart.choice([1, 50]))
        to = self._apart.choice([webhook, Syslog(host="log.example.com", port=6514)])
        terms = DestinationTerms(name=self._apart.choice(NAMES), to=to, only=EventFilter(types=("CommandQueued",)))
        open_ = [one for one in self.destinations if not one.removed]
        if not open_ or self._apart.random() < 0.3:
            destination = Destination(UUID(int=self._apart.getrandbits(128), version=4))
            self.destinations.append(destination)
            return [destination.add(terms, 0, None, ())]
        destination = self._apart.choice(open_)
        if self._apart.random() < 0.2:
            return [destination.remove("old")]
        if self._apart.random() < 0.4:
            return [destination.change(terms, UUID(int=self._apart.getrandbits(128), version=4), ("signing_key",))]
        if self._apart.random() < 0.2:
            return [destination.skip(len(destination.skips) + 1, "CommandQueued", "it does not take it")]
        return [destination.resume("") if destination.paused else destination.pause("for now")]

    def _field(self) -> list[Change]:
        name = f"Seat_{self._mark}"
        field = self.fields.setdefault(field_stream(name), Field(field_stream(name)))
        if field.terms is None or self._apart.random() < 0.3:
            default = self._apart.choice([None, "ü", "nul-free"])
            terms = FieldTerms(kind=FieldKind.TEXT, on=(Holder.AGENT, Holder.CLIENT), default=default)
            return [field.define(name, terms)]
        if self._apart.random() < 0.2:
            return [field.remove()]
        agent = self._apart.choice(self.agents)
        stream_id = values_stream(agent.stream_id)
        filled = self.filled.setdefault(stream_id, FieldValues(stream_id))
        filled.agent_id, filled.client_id = AgentId(agent.stream_id), agent.client_id
        value = self._apart.choice([None, "a\nb", "日本", "\\u0000 spelled out"])
        return [filled.fill(Holder.AGENT, agent.stream_id, {name.lower(): value}, {name.lower(): field.terms})]

    def erase(self) -> list[Change]:
        """Whoever is retired or disabled may be erased; what a machine tells may still come afterwards."""
        agents = [one for one in self.agents if one.state is AgentState.RETIRED and not one.erased]
        users = [one for one in self.users if one.disabled and not one.erased]
        if agents and self._apart.random() < 0.5:
            return self.erase_agent(self._apart.choice(agents))
        return [self._apart.choice(users).erase("")] if users else []

    def erase_agent(self, agent: Agent) -> list[Change]:
        """With what was filled in of it, as the handler does."""
        filled = self.filled.get(values_stream(agent.stream_id))
        emptied = [filled.empty(Holder.AGENT, agent.stream_id)] if filled is not None else []
        return [*emptied, agent.erase("asked for")]

    # -- commands ------------------------------------------------------------------------------------------------

    def queue(self, agent: Agent | None = None, **fields: Any) -> list[Change]:
        agent = agent or self._random.choice(self.agents)
        retry = RetryPolicy(max_attempts=3, on=(CommandState.FAILED, CommandState.INTERRUPTED), backoff_s=5)
        given = {
            "spec": self._spec(),
            "expires_at": LATER,
            "lane": self._random.choice(["default", "system"]),
            "priority": self._random.randint(0, 9),
            "not_before": self._random.choice([None, NOW]),
            "retry": self._random.choice([RetryPolicy(), retry]),
            "reason": self._random.choice(OUTPUTS),
            "hours": self._random.choice([None, None, Hours(begins="22:00", ends="05:00", timezone="Asia/Kathmandu")]),
        }
        queued = CommandQueued(
            agent_id=AgentId(agent.stream_id), client_id=agent.client_id, site_id=agent.site_id, **(given | fields)
        )
        command = Command(self.id())
        self.commands.append(command)
        return [command.queue(queued, NOW)]

    def _spec(self) -> Spec:
        return self._random.choice(
            [
                Ping(),
                RunShell(shell=Shell.SH, line="echo 'ü' \\u0000", env={"B": "2", "A": "1"}),
                RunScript(script_id=ScriptId(self.id()), revision=1, args=("-v",)),
            ]
        )

    def _go_on(self) -> list[Change]:
        if not self.commands:
            return []
        command = self._random.choice(self.commands[-12:])
        if command.state.terminal:
            if self._random.random() < 0.1:
                return list(command.finish(command.attempt, CommandState.FAILED, self._result(), at=NOW, gateway="g"))
            return []
        steps: list[Callable[[], list[Change]]] = [
            lambda: command.deliver(command.attempt, "g1"),
            lambda: command.start(command.attempt, NOW, "g1"),
            lambda: self._finish(command),
            lambda: self._finish(command),
            lambda: command.cancel("no need", in_flight=True),
            lambda: command.cancel("", in_flight=False),
            lambda: command.reject(command.attempt, "unknown_kind", "too old"),
            lambda: command.expire(LATER),
        ]
        return self._random.choice(steps)()

    def _finish(self, command: Command) -> list[Change]:
        outcome = self._random.choice(ENDINGS)
        return list(command.finish(command.attempt, outcome, self._result(), at=NOW, gateway="g1"))

    def _result(self) -> Result:
        return Result(
            started_at=self._random.choice([None, NOW]),
            finished_at=NOW,
            duration_ms=(duration_ms := self._random.randint(0, 10**6)),
            exit_code=self._random.choice([None, 0, 1, -9, 3221225786]),
            stdout=Stream(size=3, sha256="ab" * 32, tail=self._random.choice(OUTPUTS)),
            detail=self._random.choice(OUTPUTS),
            patched=PATCHED if duration_ms % 3 == 0 else None,
        )

    # -- rollouts ------------------------------------------------------------------------------------------------

    def _start_rollout(self) -> list[Change]:
        rollout = Rollout(self.id())
        self.rollouts.append(rollout)
        chosen = self._random.sample(self.agents, self._random.randint(1, len(self.agents)))
        started = RolloutStarted(
            name=self._random.choice(NAMES),
            target=Target(include=Selector(everything=True)),
            order=Order(spec=self._spec(), expires_in_s=3600),
            client_ids=(),
            targeted=0,
            wave_sizes=(),
            waves=self._random.choice(
                [(), (Wave(percent=30), Wave(count=1, manual=True)), (Wave(count=2, pause_s=9),)]
            ),
            limits=self._random.choice([rollout_terms.Limits(), rollout_terms.Limits(in_flight=2)]),
            reason=self._random.choice(OUTPUTS),
            joins=self._random.choice([None, Joins(until=LATER, after=0)]),
        )
        return rollout.start(started, [(AgentId(a.stream_id), a.client_id, a.site_id) for a in chosen])

    def _go_on_with_rollout(self) -> list[Change]:
        open_ = [rollout for rollout in self.rollouts if rollout.state in ("running", "paused")]
        if not open_:
            return []
        rollout = self._random.choice(open_)
        if rollout.state == "paused":
            return [rollout.resume("on")]
        failed = [
            (command.agent_id, entry.round)
            for entry in rollout.entries[: rollout.cursor]
            for command in self.commands
            if command.stream_id == command_id(rollout.stream_id, entry.agent_id, entry.round)
            and command.state is CommandState.FAILED
        ]
        steps: list[Callable[[], list[Change]]] = [
            lambda: self._advance(rollout),
            lambda: self._advance(rollout),
            lambda: rollout.judge(NOW, Tally(ended=rollout.queued)),
            lambda: rollout.grow(
                (AgentId(agent.stream_id), agent.client_id, agent.site_id)
                for agent in self._random.sample(self.agents, self._random.randint(1, len(self.agents)))
            ),
            lambda: [rollout.close("enough")] if rollout.open_until and self._random.random() < 0.3 else [],
            lambda: [rollout.pause("wait")],
            lambda: [rollout.release("now")] if rollout.wave < rollout.last_wave else [],
            lambda: self._retry(rollout, failed) if failed and self._random.random() < 0.5 else [],
            lambda: [rollout.abort("no")] if self._random.random() < 0.2 else [],
        ]
        return self._random.choice(steps)()

    def _advance(self, rollout: Rollout) -> list[Change]:
        room = rollout.room(NOW, Tally(ended=rollout.queued))
        if not room:
            return []
        entries = rollout.next_entries(self._random.randint(1, room))
        skipped = [entry for entry in entries if self._random.random() < 0.2]
        skips = [Skip(agent_id=entry.agent_id, round=entry.round, reason="moved") for entry in skipped]
        changes = [rollout.advance(len(entries), skips, NOW)]
        for entry in entries:
            if entry not in skipped:
                command = Command(command_id(rollout.stream_id, entry.agent_id, entry.round))
                self.commands.append(command)
                queued = CommandQueued(
                    agent_id=entry.agent_id,
                    client_id=entry.client_id,
                    site_id=entry.site_id,
                    spec=rollout.started.order.spec,
                    expires_at=LATER,
                )
                changes.append(command.queue(queued, NOW))
        return changes
