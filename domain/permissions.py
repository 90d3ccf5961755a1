"""Permissions: one for each thing that can be done. A role is a named set of them."""

import enum
from typing import Self


class Permission(enum.StrEnum):
    """What somebody may do. A permission is given over everything, over clients, or over sites."""

    about: str

    def __new__(cls, name: str, about: str) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.about = about
        return member

    AGENTS_SEE = "agents.see", "See machines, what they told of themselves, and what waits for them."
    AGENTS_EDIT = "agents.edit", "Name and tag machines, and share views of them."
    NOTES_WRITE = "notes.write", "Write, change and remove notes on machines."
    AGENTS_MOVE = "agents.move", "Move machines to other sites."
    AGENTS_SUSPEND = (
        "agents.suspend",
        "Shut machines out and let them in again, and say which of two with one identity stays.",
    )
    AGENTS_RETIRE = "agents.retire", "Take machines out for good."
    AGENTS_KEYS = "agents.keys", "Have machines make other keys for themselves."
    COMMANDS_SEE = "commands.see", "See commands, and what became of them."
    COMMANDS_OUTPUT = (
        "commands.output",
        "Read what they printed, where one sees them: live, the whole, and its end with commands, events, rollouts.",
    )
    COMMANDS_QUEUE = (
        "commands.queue",
        "Queue commands (pings and facts with nothing more, other kinds with their own), and say which go first.",
    )
    COMMANDS_SCRIPT = "commands.script", "Run scripts from the library."
    COMMANDS_SHELL = "commands.shell", "Run any line in a shell."
    COMMANDS_PATCH = "commands.patch", "Install updates that machines offer, and restart machines."
    COMMANDS_CANCEL = "commands.cancel", "Cancel commands."
    ROLLOUTS_SEE = "rollouts.see", "See rollouts."
    ROLLOUTS_START = "rollouts.start", "Plan and start rollouts, and retry what failed in them."
    ROLLOUTS_STEER = "rollouts.steer", "Pause, close and abort rollouts; resume and release those that one might start."
    CHECKS_SEE = "checks.see", "See checks, and what they find on machines."
    CHECKS_MANAGE = (
        "checks.manage",
        "Make, change, disable and remove checks; those that run something need the permission for that as well.",
    )
    SCRIPTS_SEE = "scripts.see", "See the script library."
    SCRIPTS_MANAGE = "scripts.manage", "Add, revise, rename, file, archive and restore scripts."
    SECRETS_SEE = "secrets.see", "See which secrets there are; their values are shown to nobody."
    SECRETS_MANAGE = "secrets.manage", "Set, remove and seal anew secrets."
    FIELDS_DEFINE = "fields.define", "Define and remove custom fields."
    FIELDS_FILL = "fields.fill", "Fill in custom fields of clients, sites and machines."
    CLIENTS_SEE = "clients.see", "See clients and sites."
    CLIENTS_MANAGE = "clients.manage", "Add and rename clients."
    SITES_MANAGE = "sites.manage", "Add and rename sites."
    ENROLLMENT_SEE = (
        "enrollment.see",
        "See enrollment tokens, whose text is never shown again, and the machines that wait for approval.",
    )
    ENROLLMENT_MANAGE = "enrollment.manage", "Make and revoke enrollment tokens."
    ENROLLMENT_APPROVE = "enrollment.approve", "Let machines in that wait for approval, or refuse them."
    EVENTS_SEE = "events.see", "Read, export and follow the log."
    FORWARDING_SEE = "forwarding.see", "See where events are forwarded to, and how far that is."
    FORWARDING_MANAGE = (
        "forwarding.manage",
        "Add, change, pause, resume and remove what events are forwarded to, and pass over events that it refuses.",
    )
    PEOPLE_SEE = "people.see", "See users and service accounts, and what they were granted."
    ROLES_SEE = "roles.see", "See roles, and what they allow."
    KEYS_SEE = "keys.see", "See which API keys there are; none is shown again."
    USERS_MANAGE = (
        "users.manage",
        "Add, change, disable and enable users and service accounts: their roles, passwords, factors, identities.",
    )
    ROLES_MANAGE = "roles.manage", "Make, change and retire roles."
    PLATFORM_SEE = "platform.see", "See how Fleetlog's own servers, processes and read models fare."
    RETENTION_MANAGE = "retention.manage", "Say how long things are kept."
    SERVER_KEYS_MANAGE = "server_keys.manage", "Make and end Fleetlog's own keys."
    PLATFORM_BROWSE = "platform.browse", "Read the rows of the read models, of everybody, as they are kept."
    APPROVALS_SEE = "approvals.see", "See requests that wait for another person, and take back one's own."
    APPROVALS_DECIDE = "approvals.decide", "Approve and refuse what others ask for, where one might do it as well."
    PERSONAL_ERASE = "personal.erase", "Erase for good what is personal about retired machines and disabled users."
    KEYS_MANAGE = "keys.manage", "Make and revoke API keys."


ALL = frozenset(Permission)
