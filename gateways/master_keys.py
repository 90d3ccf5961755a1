"""Where this process has the master key from."""

from command_bus.master_keys import FileKeys, GivenKeys, HookKeys, MasterKeys, parse_keys
from domain.errors import NoMasterKeyError
from gateways.settings import PREFIX, Settings, SettingsError

FILE = "secrets.key"


def master_keys(settings: Settings) -> MasterKeys:
    """The source that the settings name; without one, a file beside the data.

    Raises:
        SettingsError: they name several, or a key that is none.
    """
    named = [
        name
        for name in ("secrets_key_file", "secrets_key", "secrets_key_command")
        if getattr(settings, name) is not None
    ]
    if len(named) > 1:
        raise SettingsError(f"{' and '.join(PREFIX + name.upper() for name in named)}: only one may be set.")
    if settings.secrets_key_command is not None:
        return HookKeys(settings.secrets_key_command)
    if settings.secrets_key is not None:
        try:
            return GivenKeys(parse_keys(settings.secrets_key.get_secret_value(), f"{PREFIX}SECRETS_KEY"))
        except NoMasterKeyError as error:
            raise SettingsError(error.detail) from None
    if settings.secrets_key_file is not None:
        return FileKeys(settings.secrets_key_file)
    return FileKeys(settings.data_dir / FILE, make=True)
