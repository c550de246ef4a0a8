"""What monitoring reads."""

from __future__ import annotations

import sys
from typing import Protocol

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from twisted_chat.core.errors import Reason
from twisted_chat.metrics import MAX_REASONS, Metrics, ReactorTick


class LoggedFailures(Protocol):
    def flush(self, *kinds: type[BaseException]) -> list[BaseException]: ...


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    """A sample, as a scraper reads it from the page."""
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def test_connections_go_up_and_down_and_the_total_only_up() -> None:
    metrics = Metrics()
    metrics.connected("websocket")
    metrics.connected("websocket")
    metrics.connected("event_stream")
    metrics.disconnected("websocket", "going_away")

    assert value(metrics, "twisted_chat_connections", transport="websocket") == 1
    assert value(metrics, "twisted_chat_connections", transport="event_stream") == 1
    assert value(metrics, "twisted_chat_connections_opened_total", transport="websocket") == 2
    assert value(metrics, "twisted_chat_disconnects_total", reason="going_away") == 1


def test_publications_by_source_with_the_latency_of_the_relay() -> None:
    metrics = Metrics()
    metrics.published("websocket", 0.003)
    metrics.published("api", 0.2)

    assert value(metrics, "twisted_chat_publications_total", source="websocket") == 1
    assert value(metrics, "twisted_chat_publications_total", source="api") == 1
    assert value(metrics, "twisted_chat_publications_total", source="http") == 0
    assert value(metrics, "twisted_chat_publish_seconds_count") == 2
    assert value(metrics, "twisted_chat_publish_seconds_sum") == pytest.approx(0.203)
    assert value(metrics, "twisted_chat_publish_seconds_bucket", le="0.005") == 1


def test_messages_on_their_way() -> None:
    metrics = Metrics()
    metrics.arrived(0.002)
    metrics.delivered(7, 0.004)
    metrics.delivered(3, None)

    assert value(metrics, "twisted_chat_relay_lag_seconds_sum") == pytest.approx(0.002)
    assert value(metrics, "twisted_chat_deliveries_total") == 10
    assert value(metrics, "twisted_chat_delivery_seconds_count") == 1
    assert value(metrics, "twisted_chat_delivery_seconds_sum") == pytest.approx(0.004)


def test_clocks_that_differ_make_no_negative_latency() -> None:
    metrics = Metrics()
    metrics.published("http", -3.0)
    metrics.arrived(-3.0)
    metrics.delivered(1, -3.0)
    for name in ("publish", "relay_lag", "delivery"):
        assert value(metrics, f"twisted_chat_{name}_seconds_sum") == 0


def test_one_delivery_for_each_client() -> None:
    metrics = Metrics()
    metrics.delivered(1_000, None)
    metrics.delivered(1, None)
    assert value(metrics, "twisted_chat_deliveries_total") == 1_001


def test_every_reason_is_there_before_the_first_refusal() -> None:
    metrics = Metrics()
    for reason in Reason:
        assert value(metrics, "twisted_chat_refusals_total", reason=reason.code) == 0
    metrics.refused(Reason.RATE_LIMITED.code)
    metrics.refused("bad_header")
    assert value(metrics, "twisted_chat_refusals_total", reason="rate_limited") == 1
    assert value(metrics, "twisted_chat_refusals_total", reason="bad_header") == 1


def test_reasons_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_REASONS + 50):
        metrics.disconnected("websocket", f"reason {number}")
    metrics.disconnected("websocket", "reason 0")

    assert value(metrics, "twisted_chat_disconnects_total", reason="reason 0") == 2
    assert value(metrics, "twisted_chat_disconnects_total", reason="other") == 50
    assert value(metrics, "twisted_chat_disconnects_total", reason=f"reason {MAX_REASONS}") is None


def test_watched_values_are_asked_when_the_page_is_read() -> None:
    metrics = Metrics()
    rooms = ["lobby"]
    metrics.watch(rooms=lambda: len(rooms), members=lambda: 3)
    metrics.watch(outbox=lambda: 70_000, requests=lambda: 3, certificates=lambda: {"chat.example": 1_800_000_000.5})
    rooms.append("den")

    assert value(metrics, "twisted_chat_rooms") == 2
    assert value(metrics, "twisted_chat_members") == 3
    assert value(metrics, "twisted_chat_outbox_bytes") == 70_000
    assert value(metrics, "twisted_chat_requests_waiting") == 3
    name = "twisted_chat_certificate_expiry_timestamp_seconds"
    assert value(metrics, name, name="chat.example") == 1_800_000_000.5


def test_a_watched_value_that_fails_is_logged_and_hides_no_other(logged_failures: LoggedFailures) -> None:
    def broken() -> int:
        raise ZeroDivisionError("broken")

    metrics = Metrics()
    metrics.watch(rooms=broken, members=lambda: 3, certificates=lambda: {"a": broken()})
    with capturedLogs() as events:
        page = metrics.render().decode()

    assert "twisted_chat_members 3.0" in page
    assert "twisted_chat_rooms" not in page
    assert [event["metric"] for event in events] == [
        "twisted_chat_rooms",
        "twisted_chat_certificate_expiry_timestamp_seconds",
    ]
    assert len(logged_failures.flush(ZeroDivisionError)) == 2


def test_readiness() -> None:
    metrics = Metrics()
    assert value(metrics, "twisted_chat_ready") == 0
    metrics.ready(True)
    assert value(metrics, "twisted_chat_ready") == 1
    metrics.ready(False)
    assert value(metrics, "twisted_chat_ready") == 0


def test_what_is_not_known_now_is_left_out() -> None:
    metrics = Metrics()
    waiting: list[int | None] = [None]
    metrics.measure("twisted_chat_some", "Some.", lambda: waiting[0])
    metrics.measure("twisted_chat_others", "Others.", lambda: 0)
    assert value(metrics, "twisted_chat_some") is None
    assert value(metrics, "twisted_chat_others") == 0
    waiting[0] = 3
    assert value(metrics, "twisted_chat_some") == 3


def test_build_info_names_versions() -> None:
    families = text_string_to_metric_families(Metrics().render().decode())
    (info,) = (family for family in families if family.name == "twisted_chat_build_info")
    (sample,) = info.samples
    assert sample.value == 1
    assert sample.labels["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(sample.labels) == {"version", "twisted", "autobahn", "python"}


@pytest.mark.skipif(sys.platform != "linux", reason="these come from /proc")
def test_the_process() -> None:
    metrics = Metrics()
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        measured = value(metrics, name)
        assert measured is not None
        assert measured > 0


def test_servers_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.connected("websocket")
    assert value(other, "twisted_chat_connections", transport="websocket") == 0
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("twisted_chat")]


def test_the_page_has_no_creation_times() -> None:
    metrics = Metrics()
    metrics.published("api", 0.1)
    assert b"_created" not in metrics.render()


def test_a_tick_measures_how_late_the_reactor_is() -> None:
    clock = Clock()
    seen: list[float] = []
    tick = ReactorTick(clock, seen.append)
    tick.startService()
    clock.advance(1.0)
    clock.advance(1.25)
    clock.advance(0.5)
    assert seen == pytest.approx([0.0, 0.25])

    clock.advance(10.5)
    assert seen == pytest.approx([0.0, 0.25, 10.0])
    tick.stopService()
    assert clock.getDelayedCalls() == []


def test_a_tick_can_be_started_again() -> None:
    clock = Clock()
    seen: list[float] = []
    tick = ReactorTick(clock, seen.append)
    tick.stopService()
    tick.startService()
    tick.stopService()
    tick.startService()
    clock.advance(1.0)
    assert seen == [0.0]
    tick.stopService()
    assert clock.getDelayedCalls() == []


def test_a_clock_set_back_is_not_early() -> None:
    clock = Clock()
    seen: list[float] = []
    tick = ReactorTick(clock, seen.append)
    clock.advance(100.0)
    tick.startService()
    (call,) = clock.getDelayedCalls()
    call.reset(0)
    clock.advance(0.1)
    assert seen == [0.0]
    tick.stopService()


def test_a_tick_feeds_the_histogram() -> None:
    clock = Clock()
    metrics = Metrics()
    tick = ReactorTick(clock, metrics.ticked)
    tick.startService()
    clock.advance(1.3)
    tick.stopService()
    assert value(metrics, "twisted_chat_reactor_tick_seconds_bucket", le="0.25") == 0
    assert value(metrics, "twisted_chat_reactor_tick_seconds_bucket", le="0.5") == 1
