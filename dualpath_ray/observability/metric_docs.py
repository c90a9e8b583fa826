"""docs/metrics.md: every metric with unit, labels and meaning, from the catalogue. Pure."""

from dualpath_ray.observability.metrics import (
    CATALOGUE,
    LOAD_FAILURE_CAUSES,
    PATH_REASONS,
    WAIT_CAUSES,
    Kind,
    MetricSpec,
)

_HEAD = """\
# Metrics

Written by `dualpath dashboards docs` from the catalogue in `dualpath_ray/observability/metrics.py`.

Every actor of a system and every client exports metrics through Ray: on each Ray node they stand, with Ray's own, at the
port `--metrics-export-port` of `ray start`. That endpoint asks for no token. Prometheus finds the nodes of a cluster in
`prom_metrics_service_discovery.json` of Ray's session, as the `metrics/prometheus/prometheus.yml` beside it says.

- An actor exports every `observability.metrics_interval_s` (5 s), and Ray collects every 10 s: a gauge is what it was then,
  and utilisation over time is the rate of `..._busy_seconds_total`. `observability.metrics: false` exports nothing.
- Where Ray collects no metrics, as in the private Ray that `dualpath rollout` starts without `--address`, nothing is exported.
- Counters start at (nearly) zero as soon as an actor is up, so that their first increase is seen. Ray gives histograms on
  as counts of buckets: quantiles are as good as the buckets, and a `_sum` is made of their middles.
- Besides the labels below each series has Ray's: `SessionName`, `NodeAddress`, `WorkerId`, `Component`, `Version`. `role` is
  prefill or decode, `nic` is `snic` or `cnic0`, `cnic1`, ...; `direction` is seen from the node: `in` are reads and receives.
- `reason` of a path is one of {reasons}. `cause` of a failed load is one of {causes};
  of recomputed tokens it may also be `no_room` (lost slots leave a buffer smaller than a hit), and of a waiting request it
  is one of {waits}.
- Every `observability.state_line_s` (10 s) each actor writes one line of state into its log, which its page in the Ray
  dashboard shows.

## Dashboards and alerts

On the host of Ray's head, once it runs with its dashboard:

```bash
ray start --head                        # unless it runs already
dualpath dashboards install             # into the folders of Ray's session: the dashboard, our row in Ray's own, the alert rules
dualpath dashboards export dashboards   # the same files, for a Grafana and a Prometheus elsewhere
```

`install` may be repeated, and must be after a restart of the head, which writes its folders anew. Grafana and Prometheus are
not Ray's to start: run them with the files that the command names, and give the head their addresses in `RAY_GRAFANA_HOST`
and `RAY_PROMETHEUS_HOST` before it starts. The dashboard's **Metrics tab** embeds Ray's default dashboard whole, and so shows
our row on top of it; a link in each of these panels leads on to the dashboard *DualPath* with all of them. What Ray has no
place for: a tab of our own, panels on the pages of a job, actor or node (these embed single panels of Ray's by number), and
any panel at all where `RAY_GRAFANA_HOST` answers nobody. Grafana Cloud forbids embedding; its dashboard opens beside.
[ray-dashboard.md](ray-dashboard.md) has pictures.

Each alert's `runbook_url` is a section of [troubleshooting.md](troubleshooting.md); `--docs URL` puts an address before it.
"""


def metrics_page() -> str:
    """The whole page."""
    head = _HEAD.format(reasons=_words(PATH_REASONS), causes=_words(LOAD_FAILURE_CAUSES), waits=_words(WAIT_CAUSES))
    sections = dict.fromkeys(spec.section for spec in CATALOGUE)
    return "\n".join([head, *(_table(section) for section in sections)])


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(section: str) -> str:
    rows = [_row(spec) for spec in CATALOGUE if spec.section == section]
    head = ["| metric | type | unit | labels | meaning |", "|---|---|---|---|---|"]
    return "\n".join([f"## {section}", "", *head, *rows, ""])


def _row(spec: MetricSpec) -> str:
    buckets = f". Buckets: {', '.join(f'{b:g}' for b in spec.boundaries)}" if spec.kind is Kind.HISTOGRAM else ""
    cells = (f"`{spec.exported_name}`", spec.kind, spec.unit, ", ".join(spec.labels), spec.meaning + buckets)
    return f"| {' | '.join(cells)} |"
