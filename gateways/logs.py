"""Structured logs: for people on a terminal, as JSON lines for machines; everybody's loggers go the same way.

What is bound with `structlog.contextvars` (a correlation id, a command id) is on every line of its task.
"""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from gateways.settings import LogFormat, LogLevel

_QUIET = {
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.WARNING,
    "nats": logging.WARNING,
    "httpx2": logging.WARNING,
}
"""Loggers of libraries that say less than our own lines about the same thing."""


def _first_line(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A library's message is its event; who said it stays as `logger`."""
    event.pop("color_message", None)  # uvicorn repeats itself in colour
    return event


def configure_logs(
    level: LogLevel = LogLevel.INFO, form: LogFormat = LogFormat.AUTO, *, role: str | None = None
) -> None:
    """Set up logging for this process; standard error is the only place it writes to.

    Args:
        level: the least severe that is written.
        form: how.
        role: on every line of this process.
    """
    console = form is LogFormat.CONSOLE or (form is LogFormat.AUTO and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
    ]
    if role is not None:
        shared.insert(0, _adds_role(role))
    last: list[Processor]
    if console:
        last = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    else:
        # Local variables stay out of both forms: they hold secrets.
        traces = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        last = [traces, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _first_line, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True


def _adds_role(role: str) -> Processor:
    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event.setdefault("role", role)
        return event

    return add
