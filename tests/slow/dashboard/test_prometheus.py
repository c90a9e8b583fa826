"""A real Prometheus scrapes a live cluster: every query of every panel and alert is run against it.

Needs prometheus and promtool (Debian: prometheus; `.ci/run` unpacks it).
"""

import json
import re
import subprocess

import pytest
import yaml

from dualpath_ray.observability import dashboard, panels
from dualpath_ray.observability.metrics import CATALOGUE
from dualpath_ray.observability.shipped import alert_rules
from tests.slow.dashboard.head import Live, until

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(280)]


def test_rules_and_configuration_pass_promtool(live: Live) -> None:
    folder = live.session / "metrics" / "prometheus"
    for command in (["check", "rules", folder / "dualpath_alerts.yml"], ["check", "config", folder / "prometheus.yml"]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load(alert_rules())["groups"][0]["rules"]
    (group,) = live.api("rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in rules], "Prometheus has them all"


def test_every_metric_of_the_catalogue_is_scraped(live: Live) -> None:
    def missing() -> set[str]:
        there = {labels["__name__"] for labels, _ in live.query('group by (__name__) ({__name__=~"ray_dualpath_.*"})')}
        return {name for spec in CATALOGUE for name in spec.series} - there

    until(lambda: not missing(), 20)
    assert missing() == set()
    stray = {labels["__name__"] for labels, _ in live.query('group by (__name__) ({__name__=~"ray_dualpath_.*"})')}
    assert stray == {name for spec in CATALOGUE for name in spec.series}, "and nothing that the catalogue does not have"


def test_every_query_of_every_panel_returns_data(live: Live) -> None:
    queries = [(panel.title, target.query) for row in panels.ROWS for panel in row.panels for target in panel.targets]
    shipped = json.loads((live.session / "metrics" / "grafana" / "dashboards" / dashboard.FILE_NAME).read_text())
    assert [t["expr"] for p in shipped["panels"] for t in p.get("targets", ())] == [query for _, query in queries]
    theirs = json.loads((live.session / "metrics/grafana/dashboards/default_grafana_dashboard.json").read_text())
    ours = [
        (p["title"], t["expr"]) for p in theirs["panels"] if p["id"] >= dashboard.FIRST_ID for t in p.get("targets", ())
    ]
    assert len(ours) == sum(len(panel.targets) for panel in panels.ROWS[0].panels)

    def empty() -> list[str]:
        out = []
        for title, query in [*queries, *ours]:
            text = query.replace("$SessionName", live.session.name).replace("$system", live.system)
            if not live.query(text.replace("$__rate_interval", "1m")):
                out.append(f"{title}: {query}")
        return out

    until(lambda: not empty(), 20)
    assert empty() == []


def test_the_metrics_tab_embeds_the_dashboard_that_has_our_row(live: Live) -> None:
    """The tab's frame shows the dashboard with this uid, whole, in the Grafana and with the data source named here."""
    told = json.loads(live.ray("/api/grafana_health"))["data"]
    theirs = json.loads((live.session / "metrics/grafana/dashboards/default_grafana_dashboard.json").read_text())
    assert told["dashboardUids"]["default"] == theirs["uid"] and told["sessionName"] == live.session.name
    assert [panel["title"] for panel in theirs["panels"][:2]] == ["DualPath", "SNIC utilisation"]
    assert all(panel["datasource"] == "${datasource}" for panel in theirs["panels"] if panel["type"] == "timeseries")
    (source,) = yaml.safe_load((live.session / "metrics/grafana/provisioning/datasources/default.yml").read_text())[
        "datasources"
    ]
    assert (source["name"], source["url"]) == (told["dashboardDatasource"], live.prometheus)
    assert json.loads(live.ray("/api/prometheus_health"))["result"] is True


def test_every_expression_of_every_alert_returns_data(live: Live) -> None:
    """With ``bool`` a comparison keeps what it is false for: that it has something to compare is what is asked here."""
    rules = yaml.safe_load(alert_rules())["groups"][0]["rules"]
    for rule in rules:
        parts = re.split(r"(\{[^}]*\})", rule["expr"])  # not within the braces of a selector
        text = "".join(p if p.startswith("{") else re.sub(r"(==|!=|>=|<=|>|<)", r"\1 bool", p) for p in parts)
        assert " bool " in text
        found = live.query(text)
        assert found and all(labels["system"] == live.system for labels, _ in found), f"{rule['alert']}: {text}"
        quiet = rule["alert"] not in ("DualPathTtftAboveSlo", "DualPathTpotAboveSlo", "DualPathPoolUnbalanced")
        assert not (quiet and live.query(rule["expr"])), f"{rule['alert']} on a system that is well"


def test_what_is_scraped_is_consistent(live: Live) -> None:
    def same(left: str, right: str) -> bool:
        """Both come from one export of one actor, and so with one scrape."""
        return bool(live.query(f"({left}) == on (system) ({right})"))

    decisions = "sum by (system) (ray_dualpath_scheduler_decisions_total)"
    assert same("sum by (system) (ray_dualpath_path_requests_total)", decisions)
    assert same(
        "sum by (system) (ray_dualpath_path_tokens_total)",
        'sum by (system) (ray_dualpath_prompt_tokens_total{kind="hit"})',
    )
    ((_, hits),) = live.query('sum(rate(ray_dualpath_prompt_tokens_total{kind="hit"}[1m]))')
    ((_, read),) = live.query('sum(rate(ray_dualpath_nic_bytes_total{nic="snic", direction="in"}[1m]))')
    assert hits > 0 and read > 0
    ((_, balance),) = live.query("ray_dualpath_pool_balance_ratio")
    assert 1 <= balance <= 2, "of two nodes"
    busy = [value for _, value in live.query("ray_dualpath_nic_utilisation_ratio")]
    assert len(busy) == 8 and all(0 <= value <= 1 for value in busy)
    slots = live.query("sum by (node) (ray_dualpath_buffer_slots)")
    assert {labels["node"] for labels, _ in slots} == {"p0", "d0"} and all(value > 0 for _, value in slots)
