"""Keeps secrets out of argv, which every user of a machine can read in its list of processes.

A script that is given a secret as an argument gets all of its arguments another way: a POSIX shell sets them in the
script's file, which its user alone can read, and Python takes them out of its environment before it begins. A shell
that has no such way is refused.
"""

import json
import shlex

import msgspec

from agent.errors import WorkRefusedError
from schema import wire

_VARIABLE = "FLEETLOG_ARGUMENTS"
_LAUNCHER = (
    # What lies in the working directory must not be imported in place of what is meant.
    "import sys; sys.path[:] = [place for place in sys.path if place]; import json, os, runpy; "
    f"sys.argv[:] = [sys.argv[1], *json.loads(os.environ.pop('{_VARIABLE}'))]; "
    "sys.path.insert(0, os.path.dirname(sys.argv[0])); runpy.run_path(sys.argv[0], run_name='__main__')"
)


def hidden(work: wire.ScriptWork) -> tuple[wire.ScriptWork, tuple[str, ...]]:
    """The same work with none of its arguments in argv.

    Returns:
        The work, and what stands between its shell and its script's file.

    Raises:
        WorkRefusedError: there is no way to hand them to this shell unseen (``secret_in_argument``).
    """
    if work.shell in ("sh", "bash"):
        # On the first line, so that the shell's messages name the lines that the author knows.
        return msgspec.structs.replace(work, body=f"set -- {shlex.join(work.args)}; {work.body}", args=[]), ()
    if work.shell == "python":
        return msgspec.structs.replace(work, env=work.env | {_VARIABLE: json.dumps(work.args)}, args=[]), (
            "-c",
            _LAUNCHER,
        )
    raise WorkRefusedError(
        "secret_in_argument",
        f"A secret in an argument of {work.shell} would show in the machine's list of processes: hand it over in an "
        "environment variable.",
    )
