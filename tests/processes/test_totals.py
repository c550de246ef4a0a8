"""Metrics of several processes together."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families

from twisted_chat.metrics import Families, Metrics
from twisted_chat.processes.totals import SupervisorMetrics, Totals


def families(metrics: Metrics) -> Families:
    """As they come through a pipe."""
    sent: Families = json.loads(json.dumps(metrics.families()))
    return sent


def read(text: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in series, f"{sample.name} is there twice"
            series[labels] = sample.value
    return found


def test_one_process_says_what_it_says_alone() -> None:
    metrics = Metrics()
    metrics.published("http", 0.02)
    totals = Totals()
    totals.report(1, families(metrics))
    alone, together = read(metrics.render()), read(totals.render([]))
    assert together.keys() == alone.keys()
    for name in ("twisted_chat_publish_seconds_bucket", "twisted_chat_publications_total", "twisted_chat_build_info"):
        assert together[name] == alone[name]
    assert b"# TYPE twisted_chat_publish_seconds histogram" in totals.render([])


def test_counters_are_added_and_gauges_named() -> None:
    one, two = Metrics(), Metrics()
    for metrics, count in ((one, 3), (two, 4)):
        metrics.connected("websocket")
        metrics.ready(yes=metrics is one)
        for _ in range(count):
            metrics.published("http", 0.002)
    totals = Totals()
    totals.report(1, families(one))
    totals.report(2, families(two))
    found = read(totals.render([]))
    assert found["twisted_chat_publications_total"][("source", "http"),] == 7
    assert found["twisted_chat_publish_seconds_count"] == {(): 7}
    assert found["twisted_chat_publish_seconds_bucket"][("le", "0.001"),] == 0
    assert found["twisted_chat_publish_seconds_bucket"][("le", "0.0025"),] == 7
    assert found["twisted_chat_ready"] == {(("process", "1"),): 1, (("process", "2"),): 0}
    assert found["twisted_chat_connections"][("process", "2"), ("transport", "websocket")] == 1
    assert len(found["twisted_chat_build_info"]) == 1


def test_what_was_counted_stays_counted() -> None:
    first, second = Metrics(), Metrics()
    first.refused("only the first knows")
    for metrics in (first, second):
        metrics.connected("websocket")
        metrics.delivered(5, None)
    totals = Totals()
    totals.report(1, families(first))
    totals.ended(1)
    totals.ended(1)
    totals.ended(2)  # which never said anything
    for _ in range(2):  # however often it is asked
        found = read(totals.render([]))
        assert found["twisted_chat_deliveries_total"] == {(): 5}
        assert "twisted_chat_connections" not in found
    totals.report(1, families(second))
    found = read(totals.render([]))
    assert found["twisted_chat_deliveries_total"] == {(): 10}
    assert found["twisted_chat_connections"][("process", "1"), ("transport", "websocket")] == 1
    assert found["twisted_chat_refusals_total"][("reason", "only the first knows"),] == 1


def test_the_supervisor_has_numbers_of_its_own() -> None:
    supervisor, totals = SupervisorMetrics(), Totals()
    supervisor.running(2)
    supervisor.ended()
    totals.report(1, families(Metrics()))
    found = read(totals.render(supervisor.families()))
    assert found["twisted_chat_processes"] == {(): 2}
    assert found["twisted_chat_process_ends_total"] == {(): 1}
    if "process_resident_memory_bytes" in found:  # where there is /proc
        assert found["process_resident_memory_bytes"].keys() == {
            (("process", "1"),),
            (("process", "supervisor"),),
        }
        assert len(found["process_cpu_seconds_total"]) == 1
