"""Latency against rate as an SVG."""

from tests.performance.plot import latency_plot


def test_a_plot_of_one_rate_that_is_a_power_of_ten_has_its_point() -> None:
    """`--rates 1000` is a run like others."""
    step = {"followed": [True], "p50": [10.0], "p95": [10.0], "p99": [10.0]}

    assert latency_plot({"FlexCore": {"1000": step}}).count("<circle") == 3


def test_a_plot_without_a_rate_that_was_kept_up_with_is_empty() -> None:
    """There is nothing to draw axes around."""
    step = {"followed": [False], "p50": [10.0], "p95": [10.0], "p99": [10.0]}

    assert "<circle" not in latency_plot({"FlexCore": {"1000": step}})
