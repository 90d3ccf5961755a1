"""Where the database of a backup is: a configured one, that of a running `fleetlog up`, or that of a stopped one."""

import contextlib
from collections.abc import Iterator

from gateways.local import platform_file
from gateways.local.postgres import EmbeddedPostgres
from gateways.local.server import AlreadyRunningError, sole_use
from gateways.settings import Settings


@contextlib.contextmanager
def database(settings: Settings, *, make: bool) -> Iterator[str]:
    """The database as its owner, for as long as the context is open; a stopped embedded server runs so long.

    Args:
        settings: what is configured.
        make: make the embedded server's data where there is none.

    Yields:
        Its URL.

    Raises:
        AlreadyRunningError: a `fleetlog up` is starting, and does not say yet where its servers are.
        FileNotFoundError: there is no data, and none may be made.
    """
    if settings.postgres_url is not None:
        yield settings.migration_url
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sole_use(settings.data_dir))
        except AlreadyRunningError:
            running = platform_file.read(settings.data_dir)
            if running is None:
                raise
            yield running.postgres_admin_url
            return
        server = EmbeddedPostgres(settings.data_dir)
        if not make and not (server.folder / "data").exists():
            raise FileNotFoundError(2, "no Fleetlog has its data here", str(settings.data_dir))
        stack.callback(server.stop)
        server.start()
        yield server.owner_url
