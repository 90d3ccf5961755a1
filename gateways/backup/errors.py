"""Why a backup or a restore was not done."""

from typing import ClassVar


class BackupError(Exception):
    """The backup could not be made or restored."""

    code: ClassVar[str] = "backup_failed"


class FileExistsAlreadyError(BackupError):
    """There is a file of that name; a backup never replaces another."""

    code = "backup_exists"


class NotABackupError(BackupError):
    """The file is no backup of Fleetlog, or its end is missing."""

    code = "not_a_backup"


class DamagedBackupError(BackupError):
    """The file is not what was written; nothing of it was restored."""

    code = "backup_damaged"


class NewerBackupError(BackupError):
    """The backup was made by a newer Fleetlog; restore it with that one."""

    code = "backup_newer"


class NotEmptyError(BackupError):
    """The database holds a log already; a backup is restored into an empty one alone."""

    code = "not_empty"


class NotAsRecordedError(BackupError):
    """Rebuilt from the restored log, a projection differs from what the log gives; its details are on record."""

    code = "restore_differs"
