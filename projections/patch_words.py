"""Updates and restarts in words."""

from domain.patches import InstallUpdates, Reboot
from projections.wording import shown

_NAMED = 5


def asked(spec: InstallUpdates | Reboot) -> str:
    """What a command asks for."""
    if isinstance(spec, Reboot):
        return f"restart the machine{f' after {_span(spec.delay_s)}' if spec.delay_s else ''}"
    what = "security updates" if spec.security_only else "updates"
    named = [f"{name} {spec.versions[name]}" if name in spec.versions else name for name in spec.names[:_NAMED]]
    more = f" and {len(spec.names) - _NAMED} more" if len(spec.names) > _NAMED else ""
    which = f" of {shown(', '.join(named))}{more}" if named else ""
    but = f", but not {shown(', '.join(spec.held[:_NAMED]))}" if spec.held else ""
    then = "; then restart it if that is needed" if spec.reboot == "if_needed" else ""
    return f"install {'all ' if not named else ''}{what}{which}{but}{then}"


def _span(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds} s"  # noqa: PLR2004 - a minute
