"""The daemon in numbers, as a Prometheus text file (extra: metrics). Labels are session and server names only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from nexusd.bridge import summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from nexusd.bridge.session import Session
    from nexusd.bridge.supervisor import Supervisor

FATES = ("not_sent", "refused", "gone", "wait", "maybe_sent")


class Metrics(Collector):
    """Collects from the sessions as they are; `write` replaces the file whole."""

    def __init__(self, supervisor: Supervisor, path: str) -> None:
        self._supervisor = supervisor
        self._path = path
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def write(self) -> None:
        """Write the file. OSError."""
        write_to_textfile(self._path, self._registry)

    def collect(self) -> Iterator[Metric]:
        """All metrics of all sessions."""
        sessions = [runner.session for runner in self._supervisor.runners.values()]
        yield self._counter("nexusd_messages_received", "Messages written to the inbox", sessions, "received")
        yield self._counter("nexusd_messages_sent", "Files accepted by the server", sessions, "sent")
        yield self._counter("nexusd_messages_failed", "Files that went to failed/", sessions, "bounced")
        failures = CounterMetricFamily(
            "nexusd_request_failures", "Requests that failed, by what that means", labels=["session", "kind"]
        )
        for session in sessions:
            for fate in FATES:
                failures.add_metric([session.name, fate], session.counts[f"failed_{fate}"])
        yield failures
        for kind in ("poll", "send", "renew"):
            seconds = SummaryMetricFamily(f"nexusd_{kind}_seconds", f"Time of each {kind}", labels=["session"])
            for session in sessions:
                total = session.counts[f"{kind}_microseconds"] / 1e6
                seconds.add_metric([session.name], session.counts[f"{kind}s"], total)
            yield seconds
        yield from self._gauges(sessions)
        used = CounterMetricFamily("nexusd_requests", "Requests made, against the budget", labels=["server"])
        left = GaugeMetricFamily("nexusd_budget_left", "Requests that may go at once", labels=["server"])
        paused = GaugeMetricFamily("nexusd_paused_seconds", "Time until a server may be asked again", labels=["server"])
        for server, budget in summary.servers(self._supervisor).items():
            used.add_metric([server], budget["requests"] or 0)
            paused.add_metric([server], budget["pausedFor"] or 0)
            if budget["left"] is not None:
                left.add_metric([server], budget["left"])
        yield used
        yield left
        yield paused
        rejected = GaugeMetricFamily("nexusd_sessions_skipped", "Sessions of the configuration that do not run")
        rejected.add_metric([], len(self._supervisor.blocked) + len(self._supervisor.config.skipped))
        yield rejected
        written = GaugeMetricFamily("nexusd_last_write_timestamp_seconds", "When this file was written")
        written.add_metric([], time.time())
        yield written

    @staticmethod
    def _counter(name: str, text: str, sessions: list[Session], count: str) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=["session"])
        for session in sessions:
            family.add_metric([session.name], session.counts[count])
        return family

    @staticmethod
    def _gauges(sessions: list[Session]) -> Iterator[GaugeMetricFamily]:
        unsent = GaugeMetricFamily("nexusd_unsent_files", "Files that wait to be sent", labels=["session"])
        failed = GaugeMetricFamily("nexusd_failed_files", "Files in failed/", labels=["session"])
        expiry = GaugeMetricFamily("nexusd_expiry_seconds", "Time until the session expires", labels=["session"])
        polled = GaugeMetricFamily(
            "nexusd_last_poll_timestamp_seconds", "When a poll last succeeded", labels=["session"]
        )
        state = GaugeMetricFamily("nexusd_session_state", "1 for the state it is in", labels=["session", "state"])
        for session in sessions:
            name = [session.name]
            unsent.add_metric(name, session.unsent)
            failed.add_metric(name, session.failed)
            if session.lifetime.remaining is not None:
                expiry.add_metric(name, session.lifetime.remaining)
            if session.state.last_poll_at is not None:
                polled.add_metric(name, session.state.last_poll_at)
            state.add_metric([session.name, session.standing.status.value], 1)
        yield from (unsent, failed, expiry, polled, state)
