"""How often Python looks for garbage in a long-running process.

What roles work on is mostly freed by reference counts; what lives long (caches, the loaded program) grows with the
fleet. By Python's defaults every 700 new objects start a look, and looks through all that lives: measured in a
draining gateway, that was two fifths of its processor time.
"""

import gc

YOUNG = 20_000
"""New objects before the youngest are looked at: a few megabytes."""
LOOKS = (20, 20)
"""So many looks at one generation before the next older is looked at too."""


def look_rarely() -> None:
    """Have this process's collector look less often."""
    gc.set_threshold(YOUNG, *LOOKS)
