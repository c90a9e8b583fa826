"""Comparisons made by hand: storage-bound trajectories on emulated NICs, without running anything."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from dualpath_ray.observability.run_record import Comparison, NicSample, RunRecord, TokenCheck, TurnRecord

RATE = 24e6
BLOCK_BYTES = 3_000_000
START_S = 1_000_000.0

_TURN = TurnRecord(
    trajectory_id="t0",
    turn=0,
    request_id="r0",
    read_path="pe",
    reason="prefill_only",
    prefill_engine="p0/0",
    decode_engine="d0/0",
    prompt_tokens=1000,
    append_tokens=100,
    hit_tokens=896,
    miss_tokens=104,
    loaded_tokens=896,
    recomputed_tokens=0,
    generated_tokens=4,
    num_chunks=1,
    submit_s=START_S,
    assigned_s=START_S + 0.1,
    source_ready_s=START_S + 1.0,
    prefill_start_s=START_S + 1.25,
    prefill_end_s=START_S + 1.5,
    prompt_complete_s=START_S + 1.6,
    loaded_s=START_S + 1.7,
    finished_s=START_S + 2.0,
    read_queued_s=0.2,
    read_s=0.7,
    ttft_s=1.5,
    ttst_s=0.2,
    tpot_s=0.1,
    snic_read_bytes=BLOCK_BYTES,
    cnic_in_bytes=10,
    cnic_out_bytes=20,
    snic_write_bytes=BLOCK_BYTES,
    h2d_bytes=30,
    d2h_bytes=40,
)


def _made_run(
    mode: str = "scheduled", prefill: int = 1, decode: int = 1, rate: float | None = RATE, **more
) -> RunRecord:
    """A run of one turn that read one block on ``p0``."""
    defaults = dict(
        read_path="scheduled",
        layerwise=True,
        quota=True,
        oracle=False,
        started_s=START_S,
        ended_s=START_S + 2.0,
        turns=[_TURN],
        nic_rates_bytes_per_s={
            f"{n}/snic/in": rate for n in [f"p{i}" for i in range(prefill)] + [f"d{i}" for i in range(decode)]
        },
    )
    return RunRecord(mode=mode, prefill_nodes=prefill, decode_nodes=decode, **(defaults | more))


def _made_comparison(prefill: int = 1, decode: int = 1, seed: int = 0, modes=("prefill_only", "scheduled", "oracle")):
    """Eight trajectories of twelve turns through NICs that serve in order."""
    runs = [_simulated(mode, prefill, decode, seed) for mode in modes]
    return Comparison(
        command=f"dualpath rollout laptop_{prefill}p{decode}d.yaml --compare {','.join(modes)} --num-trajectories 8",
        runs=runs,
        checks=[TokenCheck(384, 1, 0) for _ in runs],
        config={
            "model": "smollm2-135m",
            "prefill_nodes": prefill,
            "decode_nodes": decode,
            "node": {"snic_bps": 192_000_000},
        },
        versions={"dualpath_ray": "0.1.0", "python": "3.11.9", "ray": "2.60.0", "torch": "2.11.0+cpu"},
        workload={"source": "code reading", "trajectories": 8, "turns_mean": 12.0, "total_tokens_mean": 1650.5},
    )


@pytest.fixture(scope="session")
def turn() -> TurnRecord:
    """A turn submitted at ``START_S``: 1.5 s to its first token, 896 of 1000 prompt tokens hit."""
    return _TURN


@pytest.fixture(scope="session")
def made_run() -> Callable[..., RunRecord]:
    """A run of that one turn; keywords set fields of the record."""
    return _made_run


@pytest.fixture(scope="session")
def made_comparison() -> Callable[..., Comparison]:
    """Whole storage-bound comparisons, by numbers of nodes and modes."""
    return _made_comparison


def _simulated(mode: str, prefill: int, decode: int, seed: int) -> RunRecord:
    random.seed(seed)
    read_path = {"basic": "prefill_only", "oracle": "scheduled"}.get(mode, mode)
    oracle = mode == "oracle"
    run = _made_run(mode, prefill, decode, None if oracle else RATE, read_path=read_path, oracle=oracle, turns=[])
    run.layerwise = mode != "basic"
    nodes = run.prefill_names + run.decode_names
    free = {n: START_S + random.random() * 0.2 for n in nodes}
    engine_free = {n: START_S for n in run.prefill_names}
    spans: dict[str, list[tuple[float, float, int]]] = {n: [] for n in nodes}
    queue = [(START_S + 0.002 * i, i, 0, 0) for i in range(8)]
    lengths = [[random.randint(90, 180) for _ in range(12)] for _ in range(8)]
    while queue:
        queue.sort()
        now, who, turn, context = queue.pop(0)
        append = lengths[who][turn]
        prompt = context + append
        hit = context // 64 * 64
        p = f"p{who % prefill}"
        d = f"d{(who + turn) % decode}"
        waits = {n: max(0.0, free[n] - now) for n in (p, d)}
        on_decode = read_path != "prefill_only" and waits[d] < waits[p]
        node = d if on_decode else p
        reason = f"read queue PE {int(waits[p] * 100)}, DE {int(waits[d] * 100)} tokens" if hit else "no hit"
        asked = now + 0.04
        ready = asked
        if hit and not oracle:
            for _ in range(hit // 64):
                free[node] = max(free[node], asked) + BLOCK_BYTES / RATE
                spans[node].append((asked, free[node], BLOCK_BYTES))
            ready = free[node]
        start = max(ready, engine_free[p])
        first = start + 0.12 + append * 0.0011 + (0.1 if mode == "basic" else 0)
        engine_free[p] = first
        end = first + 0.35
        run.turns.append(
            replace(
                _TURN,
                trajectory_id=f"t{who}",
                turn=turn,
                request_id=f"{mode}-{who}-{turn}",
                read_path="de" if on_decode and hit else "pe",
                reason="prefill_only" if read_path == "prefill_only" and hit else reason,
                prompt_tokens=prompt,
                append_tokens=append,
                hit_tokens=hit,
                miss_tokens=prompt - hit,
                loaded_tokens=hit,
                submit_s=now,
                source_ready_s=ready,
                prefill_start_s=start,
                prefill_end_s=first,
                prompt_complete_s=first + 0.02,
                loaded_s=first + 0.05,
                finished_s=end,
                read_queued_s=0.3 * waits[node] if hit and not oracle else 0.0,
                read_s=0.0 if oracle else max(0.0, ready - asked - 0.3 * waits[node]),
                ttft_s=first - now,
                ttst_s=0.15,
                tpot_s=0.11,
            )
        )
        if turn + 1 < 12:
            queue.append((end + random.random() * 0.01, who, turn + 1, prompt + 4))
    run.ended_s = max(t.finished_s for t in run.turns)
    run.cpu_s = 0.9 * len(run.turns)
    run.read_spans = spans
    run.snic_read_bytes = {n: sum(b for _, _, b in s) for n, s in spans.items()}
    run.snic_write_bytes = {n: 20 * BLOCK_BYTES if n.startswith("d") and not oracle else 0 for n in nodes}
    run.cnic_bytes = {n: {"in": 40 * BLOCK_BYTES, "out": 41 * BLOCK_BYTES} for n in nodes}
    run.profile = {"tokens_per_s": 900.0}
    run.samples = _sampled(run)
    return run


def _sampled(run: RunRecord) -> list[NicSample]:
    """Counters every half second or so, bytes on the wire counted in part."""
    samples = []
    times = [run.started_s]
    while times[-1] < run.ended_s:
        times.append(times[-1] + 0.5 + 0.03 * random.random())
    for node, spans in run.read_spans.items():
        for time_s in times:
            moved = sum(b * min(1.0, max(0.0, (time_s - (done - b / RATE)) / (b / RATE))) for _, done, b in spans)
            samples.append(NicSample(time_s, f"{node}/snic/in", moved, moved / RATE, 0))
    return samples
