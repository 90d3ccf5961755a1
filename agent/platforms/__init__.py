"""Everything that differs between operating systems, behind one object: ``PLATFORM``."""

import sys

from agent.platforms.shape import Account, Platform, Spawn

if sys.platform == "win32":
    from agent.platforms.windows import Windows as _Here
elif sys.platform == "darwin":
    from agent.platforms.macos import MacOS as _Here
else:
    from agent.platforms.linux import Linux as _Here

PLATFORM: Platform = _Here()

__all__ = ["PLATFORM", "Account", "Platform", "Spawn"]
