"""Dashboard, alerts and pages: what is committed is what is generated, and nothing names a metric that there is not."""

import json
import re
from importlib.resources import files
from pathlib import Path

import yaml

from dualpath_ray.observability import dashboard, panels, shipped
from dualpath_ray.observability.metric_docs import metrics_page
from dualpath_ray.observability.metrics import CATALOGUE

DOCS = Path(__file__).parents[3] / "docs"
SERIES = {name: spec for spec in CATALOGUE for name in spec.series}
QUERIES = [target.query for row in panels.ROWS for panel in row.panels for target in panel.targets]


def rules():
    return yaml.safe_load(shipped.alert_rules())["groups"][0]["rules"]


def used(query):
    """Metrics of a query, each with the labels that it is filtered by."""
    return re.findall(r"(ray_\w+)(?:\{([^}]*)\})?", query)


def test_the_committed_dashboard_is_the_generated_one():
    assert shipped.shipped_dashboard() == shipped.dashboard_json(), "write shipped.dashboard_json() there"
    folder = files("dualpath_ray.observability") / "grafana"
    assert [entry.name for entry in folder.iterdir() if entry.name.endswith(".json")] == [dashboard.FILE_NAME]


def test_the_committed_page_is_the_generated_one():
    assert (DOCS / "metrics.md").read_text() == metrics_page(), "dualpath dashboards docs > docs/metrics.md"
    assert all(f"`{spec.exported_name}`" in metrics_page() for spec in CATALOGUE)


def test_every_query_names_metrics_and_labels_of_the_catalogue():
    for query in [*QUERIES, *(rule["expr"] for rule in rules())]:
        found = used(query)
        assert found, query
        for name, filters in found:
            assert name in SERIES, f"{name} of {query}"
            labels = {"SessionName", "le", *SERIES[name].labels}
            assert set(re.findall(r"(\w+)\s*[=!]", filters)) <= labels, query
        by = {label for group in re.findall(r"(?:by|on) \(([^)]*)\)", query) for label in group.split(", ")}
        assert by <= {"le"} | {label for name, _ in found for label in SERIES[name].labels}, query


def test_every_metric_is_on_a_panel():
    shown = {SERIES[name].name for query in QUERIES for name, _ in used(query)}
    assert shown == {spec.name for spec in CATALOGUE}


def test_counters_are_rated_and_gauges_are_not():
    for query in QUERIES:
        for name, _ in used(query):
            rated = re.search(rf"rate\({name}\b", query) is not None
            assert rated == (SERIES[name].kind != "gauge"), query


def test_panels_have_an_id_a_place_and_a_legend_of_their_own():
    shown = dashboard.dashboard()["panels"]
    assert len({panel["id"] for panel in shown}) == len(shown)
    assert dashboard.dashboard()["uid"] == "dualpath"
    taken = set()
    for panel in shown:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells
    for row in panels.ROWS:
        for panel in row.panels:
            for target in panel.targets:
                by = re.findall(r"by \(([^)]*)\)", target.query)
                named = {label for group in by for label in group.split(", ")} - {"le", "system"}
                assert named <= set(re.findall(r"\{\{(\w+)\}\}", target.legend)), "series that could not be told apart"


def test_our_row_stands_on_top_of_rays_dashboard_once():
    theirs = {
        "title": "Default",
        "panels": [{"id": 24, "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8}, "title": "Nodes"}],
    }
    once = dashboard.with_our_row(theirs)
    assert dashboard.with_our_row(json.loads(json.dumps(once))) == once
    first = panels.ROWS[0]
    assert [p["title"] for p in once["panels"]] == [first.title, *(p.title for p in first.panels), "Nodes"]
    assert once["panels"][-1]["gridPos"]["y"] == max(p["gridPos"]["y"] + 8 for p in once["panels"][1:-1])
    text = json.dumps(once["panels"])
    assert "$SessionName" in text and "$system" not in text, "a variable that Ray's dashboard does not have"
    assert theirs["panels"][0]["gridPos"]["y"] == 0, "the argument is left as it was"


def sections(text):
    """Heading -> text of each section."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alert_has_its_section_with_symptom_check_and_action():
    found = sections((DOCS / "troubleshooting.md").read_text())
    for rule in rules():
        name = rule["alert"]
        assert rule["annotations"]["runbook_url"] == f"docs/troubleshooting.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("info", "warning", "critical") and rule["annotations"]["summary"]
        for part in ("Symptom", "Check", "Action"):
            assert found[name].count(f"**{part}.** ") == 1, f"{name}: {part}"
    titles = {panel.title for row in panels.ROWS for panel in row.panels}
    for name, text in found.items():
        for link in re.findall(r"\(#(\w+)\)", text):
            assert link in {heading.lower() for heading in found}, f"{name} leads to {link}"
        named = re.findall(r"\*([A-Z][^*]+)\*(?!\*)", re.sub(r"\*\*[^*]+\*\*", "", text))
        assert {n for n in named if n != "DualPath"} <= titles, f"{name} names a panel that there is not"


def test_an_address_goes_before_every_runbook():
    text = shipped.alert_rules("https://docs.example/dualpath/")
    assert text.count("runbook_url: https://docs.example/dualpath/troubleshooting.md#") == len(rules())
