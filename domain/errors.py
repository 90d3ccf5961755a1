"""What can be wrong with a request, each with a code that never changes.

A domain error says what was wrong, where, and what to do. Adapters turn it into a problem document, a wire reply or a
red line; none of them matches on its text.
"""

from typing import Any, ClassVar


class DomainError(Exception):
    """The request breaks a rule of the fleet."""

    code: ClassVar[str] = "domain_error"
    status: ClassVar[int] = 422
    """The HTTP status that fits best; kept here so that each rule says it once."""

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.extra = extra
        super().__init__(self.detail)


class NotFoundError(DomainError):
    """There is nothing with that id here; list the collection to see what there is."""

    code = "not_found"
    status = 404


class NameTakenError(DomainError):
    """That name is already in use; choose another or rename the holder."""

    code = "name_taken"
    status = 409


class StaleVersionError(DomainError):
    """It was changed since you read it; read it again and repeat the update with its new ETag."""

    code = "stale_version"
    status = 412


class InvalidValueError(DomainError):
    """A value is outside of what is allowed."""

    code = "invalid_value"
    status = 422


class AgentRetiredError(DomainError):
    """The agent is retired and takes no more commands; enroll the machine again."""

    code = "agent_retired"
    status = 409


class AgentSuspendedError(DomainError):
    """The agent is suspended; resume it first."""

    code = "agent_suspended"
    status = 409


class NoDuplicateError(DomainError):
    """No two machines with this agent's identity wait to be told apart."""

    code = "no_duplicate"
    status = 409


class KeyOverlapError(DomainError):
    """One key of the server takes over from another already: `fleetlog server-keys retire` ends the old one."""

    code = "key_overlap"
    status = 409


class NoOldKeyError(DomainError):
    """Only one key counts, so there is none to end: `fleetlog server-keys rotate` makes another."""

    code = "no_old_key"
    status = 409


class AgentsUnawareError(DomainError):
    """Some agents have not said that they know the key that is to be left."""

    code = "agents_unaware"
    status = 409


class KeyNotTakenError(DomainError):
    """A NATS server does not let the new key in yet, so the old one is still needed."""

    code = "key_not_taken"
    status = 409


class AgentNotRetiredError(DomainError):
    """The agent is not retired; retire it first, then erase it."""

    code = "agent_not_retired"
    status = 409


class ErasedError(DomainError):
    """What is personal about it was erased for good; nothing of it can be brought back or changed."""

    code = "erased"
    status = 409


class AgentNotSuspendedError(DomainError):
    """The agent is not suspended, so there is nothing to resume."""

    code = "agent_not_suspended"
    status = 409


class WrongPlatformError(DomainError):
    """The script does not support the agent's platform."""

    code = "wrong_platform"
    status = 422


class ScriptArchivedError(DomainError):
    """The script is archived; restore it or choose another."""

    code = "script_archived"
    status = 409


class UnknownRevisionError(DomainError):
    """The script has no such revision."""

    code = "unknown_revision"
    status = 404


class ExpiryInPastError(DomainError):
    """The expiry lies in the past; leave it out for the default or name a later time."""

    code = "expiry_in_past"
    status = 422


class ExpiryBeforeStartError(DomainError):
    """The command would expire before it may start; move not_before or expires_at."""

    code = "expiry_before_start"
    status = 422


class CommandEndedError(DomainError):
    """The command has already ended, and an ending never changes."""

    code = "command_ended"
    status = 409


class CommandUnderWayError(DomainError):
    """The agent may have the command already, so its place in the queue can no longer be changed."""

    code = "command_under_way"
    status = 409


class CommandNotEndedError(DomainError):
    """The command has not ended yet; cancel it first or wait."""

    code = "command_not_ended"
    status = 409


class StaleAttemptError(DomainError):
    """The message speaks of another attempt than the command's present one."""

    code = "stale_attempt"
    status = 409


class NotYourCommandError(DomainError):
    """The command belongs to another agent."""

    code = "not_your_command"
    status = 403


class EmptyRolloutError(DomainError):
    """The rollout's target is nobody; plan it to see who was left out, and why."""

    code = "rollout_empty"
    status = 422


class NeverJoinsError(DomainError):
    """Nobody is seen to join by `pending`, `seen_after` or `seen_before`; leave them out, or `joins_within_s`."""

    code = "never_joins"
    status = 422


class InvalidFilterError(DomainError):
    """The filter over facts cannot be read."""

    code = "invalid_filter"
    status = 422


class RolloutEndedError(DomainError):
    """The rollout has ended already."""

    code = "rollout_ended"
    status = 409


class RolloutPausedError(DomainError):
    """The rollout is paused already."""

    code = "rollout_paused"
    status = 409


class RolloutNotPausedError(DomainError):
    """The rollout is not paused, so there is nothing to resume."""

    code = "rollout_not_paused"
    status = 409


class RolloutNotOpenError(DomainError):
    """Nobody joins the rollout, so there is nothing to close."""

    code = "rollout_not_open"
    status = 409


class NoWaveLeftError(DomainError):
    """The rollout has no further wave to release."""

    code = "no_wave_left"
    status = 409


class NothingToRetryError(DomainError):
    """No agent of the rollout has failed, or those that did are being retried already."""

    code = "nothing_to_retry"
    status = 409


class TokenExpiredError(DomainError):
    """The enrollment token has expired; make a new one."""

    code = "token_expired"
    status = 403


class TokenUsedUpError(DomainError):
    """The enrollment token was used as often as it may be; make a new one."""

    code = "token_used_up"
    status = 403


class TokenRevokedError(DomainError):
    """The enrollment token was revoked; make a new one."""

    code = "token_revoked"
    status = 403


class EnrollmentWaitingError(DomainError):
    """This machine waits until somebody approves it; come again with the same request after Retry-After seconds."""

    code = "enrollment_waiting"
    status = 409


class EnrollmentRefusedError(DomainError):
    """Somebody refused to let this machine in; asking again with the same token changes nothing."""

    code = "enrollment_refused"
    status = 403


class EnrollmentExpiredError(DomainError):
    """Nobody approved the machine in time, or its token was revoked; enroll it with another token."""

    code = "enrollment_expired"
    status = 403


class EnrollmentDecidedError(DomainError):
    """The enrollment does not wait any more: it is approved, refused or expired."""

    code = "enrollment_decided"
    status = 409


class EnrollmentOpenError(DomainError):
    """The machine still waits, or is an agent: refuse it, or retire and erase the agent."""

    code = "enrollment_open"
    status = 409


class EnrollmentsFullError(DomainError):
    """As many machines wait for approval as may; approve or refuse some, and come again after Retry-After seconds."""

    code = "enrollments_full"
    status = 429


class EnrollmentsTooFastError(DomainError):
    """This token lets machines in faster than it may; come again after Retry-After seconds."""

    code = "enrollments_too_fast"
    status = 429


class UnknownTokenError(DomainError):
    """No such enrollment token; copy it whole from where it was shown."""

    code = "unknown_token"
    status = 403


class KeyRevokedError(DomainError):
    """The API key is already revoked."""

    code = "key_revoked"
    status = 409


class BuiltInRoleError(DomainError):
    """The role is built in and stays as it is; make one of your own."""

    code = "built_in_role"
    status = 409


class RoleRetiredError(DomainError):
    """The role is retired; choose another."""

    code = "role_retired"
    status = 409


class UserDisabledError(DomainError):
    """The user is disabled; enable the account first."""

    code = "user_disabled"
    status = 409


class UserNotDisabledError(DomainError):
    """The user is not disabled: there is nothing to enable, and nothing can be erased yet."""

    code = "user_not_disabled"
    status = 409


class TooManyNotesError(DomainError):
    """The agent has as many notes as it may have; change or remove one."""

    code = "too_many_notes"
    status = 409


class TooManyTagsError(DomainError):
    """One of these agents would have more tags than an agent may have; leave it out, or take some of its tags away."""

    code = "too_many_tags"
    status = 422


class TooManyAgentsError(DomainError):
    """It would touch more agents than your role lets one action touch; narrow the target."""

    code = "too_many_agents"
    status = 403


class QueueFullError(DomainError):
    """So much waits for that agent already that nothing more is queued for it one by one; cancel what is not wanted."""

    code = "queue_full"
    status = 409


class ApprovalAwaitedError(DomainError):
    """Your role asks for another person here: it is not done yet, and will be once somebody approves it."""

    code = "approval_awaited"
    status = 409


class ApprovalDecidedError(DomainError):
    """The request was decided already, or its time is up."""

    code = "approval_decided"
    status = 409


class ApprovalExpiredError(ApprovalDecidedError):
    """Nobody decided the request in time; ask again."""

    code = "approval_expired"


class OwnApprovalError(DomainError):
    """You asked for it yourself: another person has to decide it."""

    code = "own_approval"
    status = 403


class PersonNeededError(DomainError):
    """Only a person who has logged in decides this, no API key: in the dashboard, or after `fleetlog login --user`."""

    code = "person_needed"
    status = 403


class IdempotencyMismatchError(DomainError):
    """The Idempotency-Key was used before with another request; use a fresh key for a new request."""

    code = "idempotency_mismatch"
    status = 422


class BadPlaceholderError(DomainError):
    """Something begins like a placeholder and is none; `{{!agent.x}}` stands for the text `{{agent.x}}`."""

    code = "bad_placeholder"
    status = 422


class PlaceholderInCodeError(DomainError):
    """This shell reads the value of a variable as code, so no placeholder may stand here."""

    code = "placeholder_in_code"
    status = 422


class SecretInArgumentError(DomainError):
    """This shell's arguments show in the machine's list of processes: hand secrets over in environment variables."""

    code = "secret_in_argument"
    status = 422


class UnresolvedPlaceholderError(DomainError):
    """A placeholder stands for nothing here, so nothing was queued."""

    code = "unresolved_placeholder"
    status = 422


class SecretRemovedError(DomainError):
    """The secret is removed already; set it anew."""

    code = "secret_removed"
    status = 409


class SecretCannotWaitError(DomainError):
    """Your roles ask for another person, and no value is kept while it waits; ask somebody whose roles do not."""

    code = "secret_cannot_wait"
    status = 403


class DestinationPausedError(DomainError):
    """The destination is paused already."""

    code = "destination_paused"
    status = 409


class DestinationNotPausedError(DomainError):
    """The destination is not paused."""

    code = "destination_not_paused"
    status = 409


class DestinationSkippedError(DomainError):
    """That event is passed over there already."""

    code = "destination_skipped"
    status = 409


class DestinationRemovedError(DomainError):
    """The destination is removed; add it anew."""

    code = "destination_removed"
    status = 409


class NoMasterKeyError(DomainError):
    """This server has no master key to seal secrets with, or not the one that they are sealed with."""

    code = "no_master_key"
    status = 503


class UnknownFieldError(DomainError):
    """There is no such field; define it first."""

    code = "unknown_field"
    status = 422


class CheckRemovedError(DomainError):
    """The check is removed; make another one."""

    code = "check_removed"
    status = 409


class CheckStandsError(DomainError):
    """The check is as it is wanted already."""

    code = "check_stands"
    status = 409


class NotYourCheckError(DomainError):
    """This agent was not given that check."""

    code = "not_your_check"
    status = 403


class FieldRemovedError(DomainError):
    """The field is removed already."""

    code = "field_removed"
    status = 409


class RequiredFieldError(DomainError):
    """A field that must be filled in would be empty."""

    code = "required_field"
    status = 422


class WeakPasswordError(DomainError):
    """That password is soon guessed; choose a longer one that is not a name, and not one that everybody uses."""

    code = "weak_password"
    status = 422


class NotAPersonError(DomainError):
    """A service account has keys, and never a password or a session."""

    code = "not_a_person"
    status = 409


class NoSecondFactorError(DomainError):
    """No second factor is enrolled."""

    code = "no_second_factor"
    status = 409


class SecondFactorThereError(DomainError):
    """A second factor is enrolled already; an administrator can take it away."""

    code = "second_factor_there"
    status = 409


class IdentityTakenError(DomainError):
    """That identity is linked to a user already; it is theirs alone until it is taken from them."""

    code = "identity_taken"
    status = 409


class RecoveryCodeUsedError(DomainError):
    """That recovery code is used up."""

    code = "recovery_code_used"
    status = 409


class SessionOverError(DomainError):
    """The session is over; log in again."""

    code = "session_over"
    status = 409
