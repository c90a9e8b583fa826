"""What the Grafana dashboard shows: rows of panels and their queries, as data. ``dashboard.py`` makes JSON of them.

Queries use two variables of the dashboard: ``SessionName``, Ray's own, and ``system``.
"""

from dataclasses import dataclass

from dualpath_ray.observability.metrics import RAY_PREFIX

SESSION, SYSTEM = 'SessionName=~"$SessionName"', 'system=~"$system"'  # filters of every query


@dataclass(frozen=True, slots=True)
class Target:
    """A query, and how its series are called."""

    query: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """``unit`` is one of Grafana's; ``most`` the end of its axis, where it has one."""

    title: str
    unit: str
    meaning: str
    targets: tuple[Target, ...]
    stacked: bool = False
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def _of(metric: str, *filters: str) -> str:
    return f"{RAY_PREFIX}dualpath_{metric}{{{','.join([SESSION, SYSTEM, *filters])}}}"


def _rate(metric: str, *filters: str) -> str:
    return f"rate({_of(metric, *filters)}[$__rate_interval])"


def _sum(by: str, query: str) -> str:
    return f"sum by ({by}) ({query})"


def _quantiles(metric: str, by: str = "", *filters: str) -> tuple[Target, ...]:
    labels = f"le, {by}" if by else "le"
    named = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",") if label)
    return tuple(
        Target(
            f"histogram_quantile({q}, {_sum(labels, _rate(f'{metric}_bucket', *filters))})",
            f"p{100 * q:g} {named}".strip(),
        )
        for q in (0.5, 0.9, 0.99)
    )


def _one(query: str, legend: str) -> tuple[Target, ...]:
    return (Target(query, legend),)


_FOUND = 'result="hit"'
_SNIC, _CNIC = 'nic="snic"', 'nic=~"cnic.*"'
_SNIC_BUSY = Panel(
    "SNIC utilisation",
    "percentunit",
    "Busy share of each storage NIC, by direction. Reads (in) of all nodes that may read should be alike.",
    _one(_sum("node, direction", _rate("nic_busy_seconds_total", _SNIC)), "{{node}} {{direction}}"),
    most=1,
)
_BALANCE = Panel(
    "Balance of the SNIC pool",
    "none",
    "Bytes that SNICs read, max over mean of the nodes that may read; 1 is even.",
    _one(f"max by (system) ({_of('pool_balance_ratio')})", "{{system}}"),
)
_CHOICES = Panel(
    "Read paths by reason",
    "reqps",
    "Decisions per second: the side that reads a request's hit, and why it was chosen.",
    _one(_sum("path, reason", _rate("path_requests_total")), "{{path}}: {{reason}}"),
    stacked=True,
)
_TTFT = Panel("TTFT", "s", "Submit to first token, over all clients.", _quantiles("ttft_seconds"))
_HITS = Panel(
    "Prompt tokens: hit, miss",
    "short",
    "Per second, of the prompts that were decided on.",
    _one(_sum("kind", _rate("prompt_tokens_total")), "{{kind}}"),
    stacked=True,
)
_RECOMPUTED = Panel(
    "Recomputed tokens by cause",
    "short",
    "Per second: hits that were lost on the way. Anything but zero has a section in docs/troubleshooting.md.",
    _one(_sum("node, cause", _rate("recomputed_tokens_total")), "{{node}} {{cause}}"),
    stacked=True,
)

ROWS: tuple[Row, ...] = (
    Row("DualPath", (_SNIC_BUSY, _BALANCE, _CHOICES, _TTFT, _HITS, _RECOMPUTED)),
    Row(
        "Requests",
        (
            Panel("TTST", "s", "First token to second.", _quantiles("ttst_seconds")),
            Panel("TPOT", "s", "Mean time of a token after the first.", _quantiles("tpot_seconds")),
            Panel("JCT of trajectories", "s", "First submit to last token of a trajectory.", _quantiles("jct_seconds")),
            Panel(
                "Finished requests by reason",
                "reqps",
                "Per second.",
                _one(_sum("reason", _rate("finished_requests_total")), "{{reason}}"),
                stacked=True,
            ),
        ),
    ),
    Row(
        "NICs",
        (
            Panel(
                "SNIC bytes by class",
                "Bps",
                "What storage NICs carry, by traffic class and lane.",
                _one(
                    _sum("node, direction, class, lane", _rate("nic_bytes_total", _SNIC)),
                    "{{node}} {{direction}} {{class}} (lane {{lane}})",
                ),
                stacked=True,
            ),
            Panel(
                "CNIC bytes by class",
                "Bps",
                "What compute NICs carry, by traffic class and lane.",
                _one(
                    _sum("node, direction, class, lane", _rate("nic_bytes_total", _CNIC)),
                    "{{node}} {{direction}} {{class}} (lane {{lane}})",
                ),
                stacked=True,
            ),
            Panel(
                "CNIC utilisation",
                "percentunit",
                "Busy share of each compute NIC, by direction.",
                _one(
                    _sum("node, nic, direction", _rate("nic_busy_seconds_total", _CNIC)),
                    "{{node}} {{nic}} {{direction}}",
                ),
                most=1,
            ),
            Panel(
                "NIC utilisation between two exports",
                "percentunit",
                "The same as each node last saw it, over some seconds; absent where no rate is known.",
                _one(
                    f"max by (node, nic, direction) ({_of('nic_utilisation_ratio')})", "{{node}} {{nic}} {{direction}}"
                ),
                most=1,
            ),
            Panel(
                "Queued bytes by class",
                "bytes",
                "Submitted to a NIC and not through yet.",
                _one(
                    _sum("node, nic, direction, class", _of("nic_queued_bytes")),
                    "{{node}} {{nic}} {{direction}} {{class}}",
                ),
                stacked=True,
            ),
            Panel(
                "Nominal rates",
                "Bps",
                "What utilisation is a share of: the emulated rate, or that of the device's link.",
                _one(
                    f"max by (node, nic, direction) ({_of('nic_rate_bytes_per_second')})",
                    "{{node}} {{nic}} {{direction}}",
                ),
            ),
            Panel(
                "Transfers",
                "ops",
                "Per second; promoted ones went on in the lane of urgent KV.",
                (
                    Target(_sum("node, nic", _rate("nic_transfers_total")), "{{node}} {{nic}}"),
                    Target(_sum("node, nic", _rate("nic_promoted_total")), "{{node}} {{nic}} promoted"),
                ),
            ),
        ),
    ),
    Row(
        "Read paths and hits",
        (
            Panel(
                "Hit tokens by path and reason",
                "short",
                "Per second.",
                _one(_sum("path, reason", _rate("path_tokens_total")), "{{path}}: {{reason}}"),
                stacked=True,
            ),
            Panel(
                "Read queues",
                "short",
                "Tokens asked for from storage and not here yet (read_q).",
                _one(_sum("node", _of("read_queue_tokens")), "{{node}}"),
            ),
            Panel(
                "Blocks that could not be loaded",
                "short",
                "Per second, by cause.",
                _one(_sum("node, cause", _rate("load_failures_total")), "{{node}} {{cause}}"),
                stacked=True,
            ),
            Panel(
                "Blocks read once for several requests",
                "short",
                "Per second.",
                _one(_sum("node", _rate("shared_blocks_total")), "{{node}}"),
            ),
            Panel(
                "Nodes that can read the store",
                "none",
                "1: yes, 0: no.",
                _one(f"min by (node) ({_of('node_can_read')})", "{{node}}"),
                most=1,
            ),
        ),
    ),
    Row(
        "Scheduler",
        (
            Panel(
                "Waiting requests by what they wait for",
                "short",
                "The queue.",
                _one(_sum("cause", _of("scheduler_waiting_requests")), "{{cause}}"),
                stacked=True,
            ),
            Panel(
                "Decisions",
                "ops",
                "Per second.",
                _one(_sum("system", _rate("scheduler_decisions_total")), "{{system}}"),
            ),
            Panel(
                "Bound requests",
                "short",
                "Decided on and not finished.",
                _one(_sum("system", _of("scheduler_bound_requests")), "{{system}}"),
            ),
            Panel(
                "Groups of engines",
                "short",
                "Those that report, by role, and those that nothing was heard of yet.",
                (
                    Target(_sum("role", _of("scheduler_groups")), "{{role}}"),
                    Target(_sum("system", _of("scheduler_awaited_groups")), "awaited"),
                ),
            ),
            Panel(
                "Dual path",
                "none",
                "1: either side may read, 0: the prefill side alone.",
                _one(f"max by (system) ({_of('scheduler_dual_path')})", "{{system}}"),
                most=1,
            ),
        ),
    ),
    Row(
        "Engines",
        (
            Panel(
                "Sequences of a batch, mean",
                "short",
                "Of prefill batches and decode steps.",
                _one(
                    f"{_sum('engine', _rate('engine_batch_requests_total'))} / "
                    f"{_sum('engine', _rate('engine_batches_total'))}",
                    "{{engine}}",
                ),
            ),
            Panel(
                "Tokens",
                "short",
                "Computed by prefill and generated by decode engines, per second.",
                _one(_sum("engine", _rate("engine_batch_tokens_total")), "{{engine}}"),
                stacked=True,
            ),
            Panel(
                "Time in batches",
                "percentunit",
                "Share of the time; what of it a prefill engine waited for KV is shown, too.",
                (
                    Target(_sum("engine", _rate("engine_compute_seconds_total")), "{{engine}}"),
                    Target(_sum("engine", _rate("engine_stall_seconds_total")), "{{engine}} waits for KV"),
                ),
                most=1,
            ),
            Panel(
                "Compute quota used",
                "percentunit",
                "Predicted attention time of prefill batches over their quota.",
                _one(f"max by (engine) ({_of('engine_quota_ratio')})", "{{engine}}"),
            ),
            Panel(
                "Running requests",
                "short",
                "Requests that an engine has.",
                _one(_sum("engine", _of("engine_running_requests")), "{{engine}}"),
                stacked=True,
            ),
            Panel(
                "KV of decode engines",
                "percentunit",
                "Tokens held over those that fit.",
                _one(
                    f"{_sum('engine', _of('engine_kv_used_tokens'))} / "
                    f"{_sum('engine', _of('engine_kv_capacity_tokens'))}",
                    "{{engine}}",
                ),
                most=1,
            ),
            Panel(
                "Layers that moved while another computed",
                "percentunit",
                "Of the pairs of layers of prefill batches that loaded KV.",
                _one(
                    f"{_sum('engine', _rate('engine_overlapped_pairs_total'))} / "
                    f"{_sum('engine', _rate('engine_layer_pairs_total'))}",
                    "{{engine}}",
                ),
                most=1,
            ),
            Panel(
                "CPU of actors",
                "percentunit",
                "Cores in use.",
                _one(_sum("actor, node", _rate("actor_cpu_seconds_total")), "{{actor}} {{node}}"),
                stacked=True,
            ),
        ),
    ),
    Row(
        "Buffers and write-back",
        (
            Panel(
                "Buffer slots",
                "short",
                "Free, used and lost slots of each node's buffer.",
                _one(_sum("node, state", _of("buffer_slots")), "{{node}} {{state}}"),
                stacked=True,
            ),
            Panel(
                "Requests that hold or wait for slots",
                "short",
                "Of each node.",
                _one(_sum("node", _of("node_open_requests")), "{{node}}"),
            ),
            Panel(
                "Write-back queue",
                "short",
                "Blocks in it, its limit for decoding requests, and blocks that wait for a place.",
                (
                    Target(_sum("node", _of("write_back_blocks")), "{{node}}"),
                    Target(_sum("node", _of("write_back_limit_blocks")), "{{node}} limit"),
                    Target(_sum("node", _of("write_back_waiting_blocks")), "{{node}} waiting"),
                ),
            ),
            Panel(
                "Written to the store",
                "Bps",
                "By each node.",
                _one(_sum("node", _rate("write_back_bytes_total")), "{{node}}"),
                stacked=True,
            ),
            Panel(
                "Blocks that were not stored",
                "short",
                "Per second: refused, or their write failed.",
                _one(_sum("node", _rate("write_failures_total")), "{{node}}"),
            ),
        ),
    ),
    Row(
        "Storage",
        (
            Panel(
                "Latency of a block read",
                "s",
                "In the store's own call, verification included.",
                _quantiles("storage_latency_seconds", "node", 'operation="read"'),
            ),
            Panel(
                "Latency of a block write",
                "s",
                "In the store's own call: until it is durable.",
                _quantiles("storage_latency_seconds", "node", 'operation="write"'),
            ),
            Panel(
                "Store used",
                "percentunit",
                "Of each storage node's capacity.",
                _one(
                    f"{_sum('node', _of('store_used_bytes'))} / {_sum('node', _of('store_capacity_bytes'))}", "{{node}}"
                ),
                most=1,
            ),
            Panel(
                "Blocks",
                "short",
                "That a storage node has, and those pinned by running requests.",
                (
                    Target(_sum("node", _of("store_blocks")), "{{node}}"),
                    Target(_sum("node", _of("store_pinned_blocks")), "{{node}} pinned"),
                ),
            ),
            Panel(
                "Looked-up blocks that were there",
                "percentunit",
                "Of all that were looked up.",
                _one(
                    f"{_sum('node', _rate('store_lookup_blocks_total', _FOUND))} / "
                    f"{_sum('node', _rate('store_lookup_blocks_total'))}",
                    "{{node}}",
                ),
                most=1,
            ),
            Panel(
                "Blocks that come and go",
                "short",
                "Per second.",
                (
                    Target(_sum("node", _rate("store_committed_blocks_total")), "{{node}} written"),
                    Target(_sum("node", _rate("store_evicted_blocks_total")), "{{node}} evicted"),
                    Target(_sum("node", _rate("store_refused_blocks_total")), "{{node}} refused"),
                    Target(_sum("node", _rate("store_corrupt_blocks_total")), "{{node}} corrupt"),
                ),
            ),
        ),
    ),
)
