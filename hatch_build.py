"""Bundles the dashboard into the wheel, and beside its sources for an editable install."""

import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DashboardHook(BuildHookInterface[Any]):
    """What `gateways.dashboard.bundle` does, when hatchling asks."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node from PyPI, where the machine has none that serves."""
        bundle = self._bundle()
        return [] if bundle.machine_has_node() else [bundle.NODE_REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version, build_data
        self._bundle().build()

    def _bundle(self) -> Any:
        if self.root not in sys.path:
            sys.path.insert(0, self.root)
        from gateways.dashboard import bundle  # noqa: PLC0415 - found only now

        return bundle
