"""No images of memory on disk: these processes hold keys, passwords and secrets in the clear."""

import resource


def leave_no_core() -> None:
    """Have a crash of this process, and of what it starts, leave none."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
