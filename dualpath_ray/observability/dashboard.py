"""The Grafana dashboard as the JSON that the package ships, made of the rows of ``panels.py``. Pure."""

from itertools import count
from typing import Any

from dualpath_ray.observability.metrics import RAY_PREFIX
from dualpath_ray.observability.panels import ROWS, SESSION, SYSTEM, Panel, Row

UID = "dualpath"
FILE_NAME = "dualpath_grafana_dashboard.json"
FIRST_ID = 9000  # of our panels: far from those that Ray gives to its own
_WIDTH, _HEIGHT, _PER_ROW = 12, 8, 2


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana's JSON."""
    ids, y = count(FIRST_ID), 0
    panels: list[dict[str, Any]] = []
    for row in ROWS:
        placed = _row_json(row, ids, y)
        panels += placed
        y = _end(placed)
    return {
        "uid": UID,
        "title": "DualPath",
        "description": "A dualpath_ray system: its pool of storage NICs, read paths, engines and requests.",
        "tags": ["dualpath", "ray"],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "schemaVersion": 39,
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_datasource(), *map(_variable, ("SessionName", "system"))]},
        "panels": panels,
    }


def with_our_row(theirs: dict[str, Any]) -> dict[str, Any]:
    """Ray's default dashboard, which its Metrics tab embeds whole, with our first row on top of it.

    Ours from an earlier call give way. The panels know Ray's variable ``SessionName`` alone.
    """
    kept = [panel for panel in theirs["panels"] if not FIRST_ID <= panel.get("id", 0) < FIRST_ID + 1000]
    ours = _row_json(ROWS[0], count(FIRST_ID), 0)
    for panel in ours:
        if panel["type"] != "row":
            panel["links"] = [{"title": "All panels of DualPath", "url": f"/d/{UID}", "targetBlank": True}]
        for target in panel.get("targets", ()):
            target["expr"] = target["expr"].replace(f"{SESSION},{SYSTEM}", SESSION)
    top = min((panel["gridPos"]["y"] for panel in kept), default=0)
    down = _end(ours) - top
    moved = [{**panel, "gridPos": {**panel["gridPos"], "y": panel["gridPos"]["y"] + down}} for panel in kept]
    return {**theirs, "panels": [*ours, *moved]}


def _row_json(row: Row, ids: "count[int]", y: int) -> list[dict[str, Any]]:
    head = {
        "id": next(ids),
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"h": 1, "w": _WIDTH * _PER_ROW, "x": 0, "y": y},
        "panels": [],
    }
    out: list[dict[str, Any]] = [head]
    for index, panel in enumerate(row.panels):
        place = {
            "h": _HEIGHT,
            "w": _WIDTH,
            "x": _WIDTH * (index % _PER_ROW),
            "y": y + 1 + _HEIGHT * (index // _PER_ROW),
        }
        out.append({"id": next(ids), "gridPos": place, **_panel_json(panel)})
    return out


def _panel_json(panel: Panel) -> dict[str, Any]:
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 20 if panel.stacked else 0,
        "showPoints": "never",
        "spanNulls": True,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
    }
    most = {} if panel.most is None else {"max": panel.most}
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.meaning,
        "datasource": "${datasource}",
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, **most, "custom": custom}, "overrides": []},
        "options": {
            "legend": {
                "showLegend": True,
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"expr": target.query, "legendFormat": target.legend, "refId": chr(ord("A") + index)}
            for index, target in enumerate(panel.targets)
        ],
    }


def _datasource() -> dict[str, Any]:
    """Under the name by which Ray's dashboard chooses one."""
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 2, "regex": ""}


def _variable(label: str) -> dict[str, Any]:
    """A filter of all panels, from the values that there are."""
    session = f"{{{SESSION}}}" if label == "system" else ""
    query = f"label_values({RAY_PREFIX}dualpath_scheduler_decisions_total{session}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": "${datasource}",
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": "All", "value": "$__all"},
        "multi": False,
        "refresh": 2,
        "sort": 2,
        "hide": 0,
        "regex": "",
    }


def _end(panels: list[dict[str, Any]]) -> int:
    return max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
