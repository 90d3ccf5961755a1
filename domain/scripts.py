"""Scripts: versioned bodies of code. A revision never changes; a change is the next revision."""

import enum
import hashlib
from uuid import UUID

import msgspec

from domain.agents import Platform
from domain.errors import InvalidValueError, ScriptArchivedError, UnknownRevisionError
from domain.event import Aggregate, Change, Event
from domain.names import clean_name

MAX_BODY_BYTES = 512 * 1024
MAX_ARGS = 256
MAX_ENV = 256
MAX_VALUE_BYTES = 64 * 1024
DEFAULT_TIMEOUT_S = 300
MAX_TIMEOUT_S = 7 * 24 * 3600


class Shell(enum.StrEnum):
    SH = "sh"
    BASH = "bash"
    PYTHON = "python"
    POWERSHELL = "powershell"
    CMD = "cmd"


class Revision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is run: code, and how to run it. An empty ``platforms`` means all of them."""

    shell: Shell
    body: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    timeout_s: int = DEFAULT_TIMEOUT_S
    platforms: tuple[Platform, ...] = ()
    run_as: str | None = None

    def check(self) -> None:
        """Raise InvalidValueError where a limit is broken."""
        size = len(self.body.encode())
        if not 0 < size <= MAX_BODY_BYTES:
            raise InvalidValueError(f"body: 1 to {MAX_BODY_BYTES} bytes of code, not {size}.")
        check_call(self.args, self.env, self.timeout_s, self.run_as)

    def runs_on(self, platform: Platform) -> bool:
        return not self.platforms or platform in self.platforms


def check_call(args: tuple[str, ...], env: dict[str, str], timeout_s: int, run_as: str | None) -> None:
    """Refuse what no operating system would pass on to a program.

    Raises:
        InvalidValueError: too many or too long arguments or variables, a NUL byte, a bad variable name, a timeout
            outside of 1 second to 7 days, or an empty user name.
    """
    if len(args) > MAX_ARGS or len(env) > MAX_ENV:
        raise InvalidValueError(f"At most {MAX_ARGS} args and {MAX_ENV} environment variables are allowed.")
    for value in (*args, *env.values()):
        if "\x00" in value or len(value.encode(errors="surrogatepass")) > MAX_VALUE_BYTES:
            raise InvalidValueError(f"An argument or variable has a NUL byte or is over {MAX_VALUE_BYTES} bytes.")
    for name in env:
        if not name or "=" in name or "\x00" in name:
            raise InvalidValueError(f"env: {name!r} cannot name an environment variable.")
    if not 1 <= timeout_s <= MAX_TIMEOUT_S:
        raise InvalidValueError(f"timeout_s: 1 to {MAX_TIMEOUT_S} seconds, not {timeout_s}.")
    if run_as is not None and (not run_as.strip() or "\x00" in run_as):
        raise InvalidValueError("run_as: name a user, or leave it out to run as the agent does.")


def clean_folder(folder: str) -> str:
    """A folder's path as it is kept: without slashes at its ends, or spaces around its parts.

    Raises:
        InvalidValueError: a part is empty or cannot be shown, or the whole is longer than 200 characters.
    """
    if not folder.strip(" /"):
        return ""
    parts = [clean_name(part, what="folder") for part in folder.strip(" /").split("/")]
    return clean_name("/".join(parts), what="folder")


class ScriptCreated(Event, frozen=True, kw_only=True):
    name: str
    description: str = ""


class ScriptRenamed(Event, frozen=True, kw_only=True):
    name: str
    description: str = ""


class ScriptRevised(Event, frozen=True, kw_only=True):
    revision: int
    content: Revision
    sha256: str
    """Of the body, in hex."""


class ScriptFiled(Event, frozen=True, kw_only=True):
    folder: str
    """Of folders within folders, as ``Backup/Linux``; empty where it lies in none."""


class ScriptArchived(Event, frozen=True, kw_only=True):
    pass


class ScriptRestored(Event, frozen=True, kw_only=True):
    pass


class Script(Aggregate):
    def __init__(self, stream_id: UUID) -> None:
        super().__init__(stream_id)
        self.name = ""
        self.description = ""
        self.folder = ""
        self.archived = False
        self.revisions: list[Revision] = []

    def create(self, name: str, description: str) -> Change:
        return self.decide(ScriptCreated(name=clean_name(name, what="script"), description=description))

    def rename(self, name: str, description: str) -> Change:
        return self.decide(ScriptRenamed(name=clean_name(name, what="script"), description=description))

    def revise(self, content: Revision) -> Change:
        content.check()
        if self.archived:
            raise ScriptArchivedError
        digest = hashlib.sha256(content.body.encode()).hexdigest()
        return self.decide(ScriptRevised(revision=len(self.revisions) + 1, content=content, sha256=digest))

    def file(self, folder: str) -> list[Change]:
        """Lay it into a folder; nothing happens to one that lies there."""
        cleaned = clean_folder(folder)
        return [] if cleaned == self.folder else [self.decide(ScriptFiled(folder=cleaned))]

    def archive(self) -> Change:
        if self.archived:
            raise ScriptArchivedError("The script is archived already.")
        return self.decide(ScriptArchived())

    def restore(self) -> Change:
        if not self.archived:
            raise InvalidValueError("The script is not archived, so there is nothing to restore.")
        return self.decide(ScriptRestored())

    def pinned(self, revision: int | None) -> tuple[int, Revision]:
        """The revision to run: the named one, or the newest.

        Raises:
            UnknownRevisionError: there is no such revision.
            ScriptArchivedError: the script is not for use any more.
        """
        if self.archived:
            raise ScriptArchivedError
        number = revision if revision is not None else len(self.revisions)
        if not 1 <= number <= len(self.revisions):
            raise UnknownRevisionError(f"The script has revisions 1 to {len(self.revisions)}, not {number}.")
        return number, self.revisions[number - 1]

    def when(self, event: Event) -> None:
        match event:
            case ScriptCreated() | ScriptRenamed():
                self.name = event.name
                self.description = event.description
            case ScriptFiled():
                self.folder = event.folder
            case ScriptRevised():
                self.revisions.append(event.content)
            case ScriptArchived():
                self.archived = True
            case ScriptRestored():
                self.archived = False
            case _:
                super().when(event)
