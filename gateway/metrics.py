"""Every metric of the gateway, with its meaning. A route is named by its template: paths hold ids."""

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""The last one is the longest `wait`."""


class Described(Struct, frozen=True):
    """A metric for people."""

    name: str
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """One registry for each gateway, so that two in one process do not share it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "headrace_gateway_requests",
            "Requests that were answered, by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "headrace_gateway_request_seconds",
            "From the request's head to its answer, by route; streams are left out.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.requests_running = Gauge(
            "headrace_gateway_requests_running",
            "Requests that are being worked on, streams included.",
            registry=registry,
        )
        self.problems = Counter(
            "headrace_gateway_problems", "Problems that were answered, by code.", ("code",), registry=registry
        )
        self.open_streams = Gauge(
            "headrace_gateway_open_streams", "Open streams, by kind: sse or websocket.", ("kind",), registry=registry
        )
        self.streams_ended = Counter(
            "headrace_gateway_streams_ended",
            "Streams that the gateway ended, by kind and by the code that says why.",
            ("kind", "code"),
            registry=registry,
        )
        self.entries_sent = Counter(
            "headrace_gateway_entries_sent",
            "Entries handed to streams, by kind.",
            ("kind",),
            registry=registry,
        )
        self.entries_unreadable = Counter(
            "headrace_gateway_entries_unreadable",
            "Entries that this version cannot read, so that a reader was not told them; kind: sse, websocket or wait.",
            ("kind",),
            registry=registry,
        )
        self.commands = Counter(
            "headrace_gateway_commands", "Commands that the brokers have, by type.", ("type",), registry=registry
        )
        self.publish_seconds = Histogram(
            "headrace_gateway_publish_seconds",
            "From handing a record to the brokers until they acknowledged it.",
            buckets=SECONDS,
            registry=registry,
        )

        self.audits_dropped = Counter(
            "headrace_gateway_audits_dropped",
            "Audit events that are in the log only, because they could not be written.",
            registry=registry,
        )

    def described(self) -> list["Described"]:
        """Every metric, as Prometheus has it, in the order above."""
        found = []
        for metric in vars(self).values():
            if isinstance(metric, MetricWrapperBase):
                (family,) = metric.describe()
                name = family.name + ("_total" if family.type == "counter" else "")
                found.append(Described(name, metric._labelnames, family.documentation))  # noqa: SLF001 # No other way.
        return found

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self.registry)
