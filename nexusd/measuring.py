"""The metrics file: written where one is wanted, and costs nothing where none is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import structlog

    from nexusd.bridge.supervisor import Supervisor


def writer(
    supervisor: Supervisor, path: str | None, log: structlog.typing.FilteringBoundLogger
) -> Callable[[], None] | None:
    """What writes the file at `path` when called; None where there is none, or the extra is not installed."""
    if path is None:
        return None
    try:
        from nexusd.metrics import Metrics  # noqa: PLC0415 - an extra
    except ImportError:
        log.warning("metrics.missing", instead="run: pip install 'nexusd[metrics]'")
        return None
    metrics = Metrics(supervisor, path)

    def write() -> None:
        try:
            metrics.write()
        except OSError as fault:
            log.warning("metrics.failed", error=str(fault))

    return write
