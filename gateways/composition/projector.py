"""The projector role."""

from command_bus.postgres import app_conninfo
from gateways.settings import Settings
from projections.runner import Projector


def build_projector(settings: Settings) -> Projector:
    """The projector role."""
    return Projector(app_conninfo(settings.database_url, name="fleetlog-projector"))
