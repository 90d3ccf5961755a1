"""Which handler answers which intent."""

from datetime import timedelta
from typing import Protocol

from command_bus.bus import CommandBus
from command_bus.context import Clock, InFlight, NewId
from command_bus.credential_store import CredentialStore
from command_bus.event_log import EventLog
from command_bus.handlers.agents import AgentHandlers
from command_bus.handlers.api_keys import ApiKeyHandlers
from command_bus.handlers.approvals import ApprovalHandlers
from command_bus.handlers.checks import CheckHandlers
from command_bus.handlers.clients import ClientHandlers
from command_bus.handlers.commands import CommandHandlers, CommandReads
from command_bus.handlers.destinations import DestinationHandlers
from command_bus.handlers.duplicates import DuplicateHandlers
from command_bus.handlers.enrollments import EnrollmentHandlers
from command_bus.handlers.erasures import ErasureHandlers
from command_bus.handlers.extracts import ExtractHandlers
from command_bus.handlers.fields import FieldHandlers
from command_bus.handlers.identities import IdentityHandlers
from command_bus.handlers.logins import LoginHandlers
from command_bus.handlers.notes import NoteHandlers
from command_bus.handlers.retention import RetentionHandlers
from command_bus.handlers.roles import RoleHandlers
from command_bus.handlers.rollouts import RolloutHandlers, RolloutReads
from command_bus.handlers.scripts import ScriptHandlers, ScriptReads
from command_bus.handlers.secrets import SecretHandlers
from command_bus.handlers.server_keys import KeySteps, ServerKeyHandlers
from command_bus.handlers.tagging import TagHandlers, TagReads
from command_bus.handlers.tokens import TokenHandlers
from command_bus.handlers.users import UserHandlers
from command_bus.handlers.views import ViewHandlers
from command_bus.ids import new_id, utc_now
from command_bus.intents import (
    agents,
    api_keys,
    approvals,
    checks,
    clients,
    commands,
    destinations,
    enrollments,
    erasures,
    extracts,
    fields,
    logins,
    notes,
    platform,
    roles,
    rollouts,
    scripts,
    secrets,
    sso,
    tokens,
    users,
    views,
)
from command_bus.keystore import DESTINATIONS, Keystore
from command_bus.touches import Touches, Uncounted
from domain.commands import DEFAULT_EXPIRY


class Reads(RolloutReads, TagReads, ScriptReads, CommandReads, Protocol):
    """What handlers ask of the read models."""


def make_bus(
    log: EventLog,
    in_flight: InFlight,
    reads: Reads,
    *,
    clock: Clock = utc_now,
    fresh_id: NewId = new_id,
    default_expiry: timedelta = DEFAULT_EXPIRY,
    keystore: Keystore | None = None,
    credentials: CredentialStore | None = None,
    issuer: str | None = None,
    touches: Touches | None = None,
    server_keys: KeySteps | None = None,
) -> CommandBus:
    """A bus with all handlers.

    Args:
        log: where decisions are recorded.
        in_flight: which commands an agent may already have been handed.
        reads: whom an action on many is about, who of a rollout failed, and who runs a script.
        clock: now.
        fresh_id: a fresh version 7 UUID.
        default_expiry: how long a command waits at the most, where its intent does not say.
        keystore: keeps secrets' values; None where this process has nothing to do with them.
        credentials: keeps what people log in with; None as above.
        issuer: of the provider that people log in through, where there is one.
        touches: counts the agents that somebody touches one by one; None where nobody is held to a cap.
        server_keys: takes steps of the server's own keys; None where this process has nothing to do with them.
    """
    client = ClientHandlers(log, fresh_id)
    touched = touches or Uncounted()
    agent = AgentHandlers(log, touched)
    script = ScriptHandlers(log, fresh_id, clock, reads)
    command = CommandHandlers(log, clock, fresh_id, in_flight, reads, touched, default_expiry)
    check = CheckHandlers(log, fresh_id, reads)
    rollout = RolloutHandlers(log, clock, fresh_id, reads, default_expiry)
    token = TokenHandlers(log, clock, fresh_id)
    enrollment = EnrollmentHandlers(log, clock)
    key = ApiKeyHandlers(log, clock, fresh_id)
    user = UserHandlers(log, fresh_id)
    role = RoleHandlers(log, fresh_id)
    told = keystore.beside(DESTINATIONS) if keystore is not None else None
    destination = DestinationHandlers(log, fresh_id, told)
    also = [] if credentials is None else [credentials.keystore]
    secret = SecretHandlers(log, fresh_id, keystore, also if told is None else [*also, told])
    login = LoginHandlers(log, fresh_id, credentials)
    field = FieldHandlers(log)
    identity = IdentityHandlers(log, issuer)
    erasure = ErasureHandlers(log, credentials)
    view = ViewHandlers(log, fresh_id)
    note = NoteHandlers(log, fresh_id)
    server_key = ServerKeyHandlers(server_keys)
    bus = CommandBus(
        log,
        {
            clients.CreateClient: client.create_client,
            clients.RenameClient: client.rename_client,
            clients.CreateSite: client.create_site,
            clients.RenameSite: client.rename_site,
            agents.MoveAgent: agent.move,
            agents.RenameAgent: agent.rename,
            agents.TagAgent: agent.tag,
            agents.TagAgents: TagHandlers(log, reads).tag,
            agents.SuspendAgent: agent.suspend,
            agents.ResumeAgent: agent.resume,
            agents.RetireAgent: agent.retire,
            erasures.EraseAgent: erasure.erase_agent,
            erasures.EraseEnrollment: erasure.erase_enrollment,
            erasures.EraseUser: erasure.erase_user,
            agents.SettleDuplicate: DuplicateHandlers(log).settle,
            scripts.CreateScript: script.create,
            scripts.ReviseScript: script.revise,
            scripts.RenameScript: script.rename,
            scripts.ArchiveScript: script.archive,
            scripts.RestoreScript: script.restore,
            scripts.FavourScript: script.favour,
            commands.QueueCommand: command.queue,
            commands.CancelCommand: command.cancel,
            commands.PrioritiseCommand: command.prioritise,
            commands.RetryCommand: command.retry,
            rollouts.StartRollout: rollout.start,
            rollouts.PlanRollout: rollout.plan,
            rollouts.PauseRollout: rollout.pause,
            rollouts.ResumeRollout: rollout.resume,
            rollouts.ReleaseRollout: rollout.release,
            rollouts.CloseRollout: rollout.close,
            rollouts.AbortRollout: rollout.abort,
            rollouts.RetryRollout: rollout.retry,
            checks.DefineCheck: check.define,
            checks.PlanCheck: check.plan,
            checks.ChangeCheck: check.change,
            checks.DisableCheck: check.disable,
            checks.EnableCheck: check.enable,
            checks.RemoveCheck: check.remove,
            tokens.CreateEnrollmentToken: token.create,
            tokens.RevokeEnrollmentToken: token.revoke,
            enrollments.ApproveEnrollments: enrollment.approve,
            enrollments.RefuseEnrollments: enrollment.refuse,
            api_keys.CreateApiKey: key.create,
            api_keys.SealedApiKey: key.create_sealed,
            api_keys.RevokeApiKey: key.revoke,
            users.CreateUser: user.create,
            users.ChangeUser: user.change,
            users.GrantRoles: user.grant,
            users.DisableUser: user.disable,
            users.EnableUser: user.enable,
            logins.SetPassword: login.set_password,
            logins.ResetSecondFactor: login.reset_second_factor,
            logins.RevokeUserSessions: login.revoke_sessions,
            sso.LinkIdentity: identity.link,
            sso.UnlinkIdentity: identity.unlink,
            roles.CreateRole: role.create,
            roles.ChangeRole: role.change,
            roles.RetireRole: role.retire,
            secrets.SetSecret: secret.put,
            secrets.RemoveSecret: secret.remove,
            secrets.RotateSecrets: secret.rotate,
            destinations.AddDestination: destination.add,
            destinations.ChangeDestination: destination.change,
            destinations.PauseDestination: destination.pause,
            destinations.ResumeDestination: destination.resume,
            destinations.SkipEvent: destination.skip,
            destinations.RemoveDestination: destination.remove,
            extracts.ExtractHistory: ExtractHandlers(log, fresh_id).ask,
            fields.DefineField: field.define,
            fields.RemoveField: field.remove,
            fields.FillClientFields: field.fill,
            fields.FillSiteFields: field.fill,
            fields.FillAgentFields: field.fill,
            notes.WriteNote: note.write,
            notes.ChangeNote: note.change,
            notes.RemoveNote: note.remove,
            platform.SetRetention: RetentionHandlers(log).put,
            platform.RotateServerKey: server_key.rotate,
            platform.RetireServerKey: server_key.retire,
            views.SaveView: view.save,
            views.ChangeView: view.change,
            views.RemoveView: view.remove,
        },
        clock,
        fresh_id,
    )
    approval = ApprovalHandlers(log, clock, bus.read, bus.decide)
    bus.add(
        {
            approvals.ApproveRequest: approval.approve,
            approvals.RefuseRequest: approval.refuse,
            approvals.WithdrawRequest: approval.withdraw,
        }
    )
    return bus
