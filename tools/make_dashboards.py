"""Write the Grafana dashboards, docker/grafana/dashboards/*.json; a test compares them."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docker" / "grafana" / "dashboards"
WIDE, HIGH, ACROSS = 8, 8, 3
SOURCE = {"type": "prometheus", "uid": "${source}"}

Json = dict[str, Any]
Panel = tuple[str, str, dict[str, str]]
"""Title, unit as Grafana calls it, and queries by their legends."""


def stage(name: str) -> Panel:
    """A stage of turns, at half, nineteen of twenty and ninety-nine of a hundred."""
    rate = f'sum by (le) (rate(vita_duplex_stage_seconds_bucket{{stage="{name}"}}[$__rate_interval]))'
    return name, "s", {f"p{q:g}": f"histogram_quantile({q / 100:g}, {rate})" for q in (50, 95, 99)}


def rate(title: str, metric: str, *by: str) -> Panel:
    """Events a second by labels; nothing of the kind is 0."""
    query = f"sum by ({', '.join(by)}) (rate({metric}[$__rate_interval])) or vector(0)"
    return title, "reqps", {" ".join("{{" + label + "}}" for label in by): query}


def late(title: str, metric: str, quantile: float) -> Panel:
    """A quantile of a histogram in seconds, over all who have it."""
    query = f"histogram_quantile({quantile}, sum by (le) (rate({metric}_bucket[$__rate_interval])))"
    return title, "s", {f"p{100 * quantile:g}": query}


def each(title: str, query: str, unit: str = "short", by: str = "instance") -> Panel:
    """One line for each process."""
    return title, unit, {"{{" + by + "}}": query}


TALK: list[Panel] = [
    *map(stage, ("first_audio", "verdict", "stop", "hold", "endpoint", "first_token")),
    rate("turns", "vita_duplex_turns_total", "status"),
    rate("verdicts", "vita_duplex_verdicts_total", "state"),
    rate("holds: resumed ones were false alarms", "vita_duplex_holds_total", "outcome"),
    ("early verdicts asked again", "reqps", {"a second": "sum(rate(vita_duplex_abstained_total[$__rate_interval]))"}),
    rate("refusals", "vita_duplex_refusals_total", "code"),
    rate("failures", "vita_duplex_failures_total", "part"),
]
ENGINES: list[Panel] = [
    # Prometheus calls its own label `instance`, and so ours is `exported_instance`.
    each(
        "sessions generating",
        "sum by (exported_instance) (vita_duplex_instance_sessions)",
        by="exported_instance",
    ),
    each("parts that work", "min by (part) (vita_duplex_ready)", by="part"),
    rate("tokens of chats", "vita_duplex_chat_tokens_total", "direction"),
    each("requests in the engine", "vllm:num_requests_running"),
    each("requests waiting", "vllm:num_requests_waiting"),
    each("cache for tokens in use", "vllm:kv_cache_usage_perc", "percentunit"),
    each("prompts read, tokens a second", "rate(vllm:prompt_tokens_total[$__rate_interval])"),
    each("answers written, tokens a second", "rate(vllm:generation_tokens_total[$__rate_interval])"),
    late("first token of the engine", "vllm:time_to_first_token_seconds", 0.95),
]
CAPACITY: list[Panel] = [
    each("sessions", "vita_duplex_sessions"),
    each("clients waiting", "vita_duplex_waiting"),
    each("shedding: 1 half the camera, 2 all, 3 clients", "vita_duplex_shedding"),
    late("lateness of the event loop", "vita_duplex_loop_lag_seconds", 0.99),
    each("cores in use", "rate(process_cpu_seconds_total[$__rate_interval])"),
    each("memory", "process_resident_memory_bytes", "bytes"),
    each("open files", "process_open_fds"),
    each("frames not shown", "rate(vita_duplex_shed_frames_total[$__rate_interval])", "reqps"),
    rate("HTTP requests", "vita_duplex_requests_total", "path", "status"),
]
DASHBOARDS = {"talk": TALK, "engines": ENGINES, "capacity": CAPACITY}


def dashboard(name: str) -> Json:
    variable = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    panels = [_panel(number, *panel) for number, panel in enumerate(DASHBOARDS[name])]
    return {
        "uid": f"vita-duplex-{name}",
        "title": f"VITA duplex: {name}",
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }


def _panel(number: int, title: str, unit: str, queries: dict[str, str]) -> Json:
    targets = [
        {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        for place, (legend, query) in enumerate(queries.items())
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": number % ACROSS * WIDE, "y": number // ACROSS * HIGH, "w": WIDE, "h": HIGH},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def text(name: str) -> str:
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name))
