"""Files in the folders of a Ray session: written once, found again, and what stands there is kept."""

import json

import pytest
import yaml

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cli.main import run
from dualpath_ray.observability import dashboard
from dualpath_ray.ops import dashboards

PROMETHEUS = "# theirs\nglobal:\n  scrape_interval: 10s\nscrape_configs:\n- job_name: 'ray'\n"


@pytest.fixture
def session(tmp_path):
    """As Ray's head writes it."""
    grafana = tmp_path / "ray" / "session_latest" / "metrics" / "grafana"
    for folder in (grafana / "dashboards", grafana / "provisioning" / "dashboards", grafana.parent / "prometheus"):
        folder.mkdir(parents=True)
    providers = {"apiVersion": 1, "providers": [{"name": "Ray", "options": {"path": str(grafana / "dashboards")}}]}
    (grafana / "provisioning" / "dashboards" / "default.yml").write_text(yaml.safe_dump(providers))
    panel = {"id": 24, "title": "Node Count", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8}}
    (grafana / "dashboards" / "default_grafana_dashboard.json").write_text(json.dumps({"panels": [panel]}))
    (grafana.parent / "prometheus" / "prometheus.yml").write_text(PROMETHEUS)
    return tmp_path / "ray" / "session_latest"


def test_a_second_time_changes_nothing(session):
    folders = dashboards.ray_folders(session, {})
    first = dashboards.install(folders)
    assert len(first) == 4 and not any(each.unchanged for each in first)
    texts = {each.path: each.path.read_text() for each in first}
    assert all(each.unchanged for each in dashboards.install(folders))
    assert {path: path.read_text() for path in texts} == texts
    assert json.loads((folders.dashboards / dashboard.FILE_NAME).read_text())["uid"] == dashboard.UID
    told = yaml.safe_load(folders.prometheus_config.read_text())
    assert told["rule_files"] == [str(folders.rules)] and told["scrape_configs"] == [{"job_name": "ray"}]
    assert folders.prometheus_config.read_text().startswith(PROMETHEUS.rstrip())
    assert not [path for path in folders.metrics.rglob(".*")], "nothing half-written stays"


def test_rules_of_others_stay(tmp_path):
    config = "rule_files: ['a.yml']\nscrape_configs: []\n"
    with_ours = dashboards.with_rule_file(config, tmp_path / "ours.yml")
    assert yaml.safe_load(with_ours) == {"rule_files": ["a.yml", str(tmp_path / "ours.yml")], "scrape_configs": []}
    assert dashboards.with_rule_file(with_ours, tmp_path / "ours.yml") == with_ours


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_the_latest_session_is_found_where_ray_puts_it(session, variable):
    found = dashboards.ray_folders(None, {variable: str(session.parents[1])})
    assert found.metrics == session / "metrics"


def test_folders_that_ray_was_told_are_used(session, tmp_path):
    moved = tmp_path / "elsewhere"
    (session / "metrics").rename(moved)
    found = dashboards.ray_folders(session, {"RAY_METRICS_OUTPUT_ROOT": str(moved)})
    assert found.metrics == moved and found.dashboards == session / "metrics" / "grafana" / "dashboards"


def test_one_sentence_where_there_is_no_session(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_METRICS_OUTPUT_ROOT", raising=False)
    assert run(["dashboards", "install"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"no Ray session with a dashboard at {tmp_path}/ray/session_latest" in said


def test_a_folder_that_cannot_be_written_is_named(session):
    folders = dashboards.ray_folders(session, {})
    (folders.dashboards / dashboard.FILE_NAME).mkdir()  # whoever the user is, no file can be put in its place
    with pytest.raises(ConfigError, match="grafana/dashboards cannot be written: Is a directory; use the user"):
        dashboards.install(folders)


def test_files_that_are_not_rays_are_left_alone(session):
    folders = dashboards.ray_folders(session, {})
    theirs = folders.dashboards / "default_grafana_dashboard.json"
    theirs.write_text("[]")
    with pytest.raises(ConfigError, match="is not what Ray writes there"):
        dashboards.install(folders)
    assert theirs.read_text() == "[]"


def test_export_writes_what_another_grafana_and_prometheus_take(tmp_path, capsys):
    assert run(["dashboards", "export", str(tmp_path / "out"), "--docs", "https://docs.example"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dualpath_alerts.yml", dashboard.FILE_NAME]
    rules = yaml.safe_load((tmp_path / "out" / "dualpath_alerts.yml").read_text())["groups"][0]["rules"]
    assert all(rule["annotations"]["runbook_url"].startswith("https://docs.example/") for rule in rules)
    assert capsys.readouterr().out.count(str(tmp_path / "out")) == 2


def test_the_page_is_printed(capsys):
    assert run(["dashboards", "docs"]) == 0
    assert capsys.readouterr().out.startswith("# Metrics\n")
