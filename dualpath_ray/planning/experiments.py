"""What lies behind a row that is off, or behind a claim without a number: small experiments, shown beneath their figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from dualpath_ray.models.known import known_model
from dualpath_ray.models.spec import ModelSpec, flops_per_token, gb_per_pflop
from dualpath_ray.planning import figures, paper
from dualpath_ray.planning.lab import NO_READ_AHEAD, WINDOWS_S, Lab
from dualpath_ray.planning.table1 import APPEND_TOKENS, CONTEXT_TOKENS

SLOW_CNIC = 0.35  # of the data sheet's rate
SHARES_OF_LIMIT = (0.5, 0.75, 0.95, 1.15, 1.5)  # rates over Basic's limit at which both systems are compared


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question, a table of text and what it says."""

    figure: str
    question: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    answer: str

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "question": self.question,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "answer": self.answer,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Experiment":
        """The inverse of ``to_json``."""
        return cls(**{**data, "columns": tuple(data["columns"]), "rows": tuple(map(tuple, data["rows"]))})


def table1(lab: Lab) -> list[Experiment]:
    """Readings of DeepSeek-V3's row: what its KV and its attention may have been counted as."""
    low, high = CONTEXT_TOKENS[0], CONTEXT_TOKENS[-1]
    readings = (
        ("latents absorbed, all KV in FP8 (ours)", _absorbed, 1.0),
        ("latents absorbed, RoPE part in BF16", _absorbed, 640 / 576),
        ("latents expanded to K and V for each prompt", _expanded, 1.0),
        ("latents expanded, at no cost", _expanded_kept, 1.0),
    )
    rows = [
        (what, *(f"{size * ratio(known_model('deepseek-v3'), context):.1f}" for context in (low, high)))
        for what, ratio, size in readings
    ]
    sparse = known_model("deepseek-v3.2")
    wide = 768 / 704  # 64 RoPE elements of two bytes, in latent, RoPE part and indexer key
    rows.append(
        ("DeepSeek-V3.2, RoPE part in BF16", *(f"{wide * _absorbed(sparse, context):.1f}" for context in (low, high)))
    )
    return [
        Experiment(
            "table1",
            "Is there a way of counting that gives DeepSeek-V3's 4.8 to 5.8 GB/PFLOP?",
            ("counted", "16K", "64K"),
            tuple(rows),
            "The printed range lies between two ways of counting, and what brings DeepSeek-V3 nearer to it takes "
            "DeepSeek-V3.2 out of its own (13 to 36). All models are counted alike here, so this row stays off.",
        )
    ]


def table3(lab: Lab) -> list[Experiment]:
    """What a second token waits for, at both sizes."""
    rows = []
    for where, config, aps in (
        ("2P4D, 0.4 agents/s", figures.DS660B, paper.ONLINE_2P4D_APS),
        ("44P88D, 8.8 agents/s", "ds660b_44p88d", paper.ONLINE_44P88D_APS),
    ):
        found = lab.online(config, "scheduled", aps)
        parts = (found[key] for key in ("to_buffer_s", "to_hbm_s", "to_step_s"))
        rows.append((where, *(f"{1e3 * seconds:.0f} ms" for seconds in parts)))
    return [
        Experiment(
            "table3",
            "What does a second token wait for?",
            ("", "the prompt in the DE buffer", "the prompt in HBM", "a decode step"),
            tuple(rows),
            "Most of TTST is the constant that was calibrated on 2P4D (hand_over_s, in the first column), and no size changes it. "
            "The paper's larger system is faster by 34 ms; what it does faster is not in the model.",
        )
    ]


def fig8(lab: Lab) -> list[Experiment]:
    """The speedup by system and by the number of agents: the mean is over numbers that the paper does not print."""
    counts = figures.AGENTS_27B
    rows, by_count = [], []
    for config in figures.DS27B:
        speedups = [lab.speedup(config, count) for count in counts]
        by_count.append(speedups)
        rows.append((config.split("_")[1].upper(), *(f"{speedup:.2f}x" for speedup in speedups)))
    means = [fmean(column) for column in zip(*by_count, strict=True)]
    rows.append(("mean", *(f"{mean:.2f}x" for mean in means)))
    grows = "grows" if means[-1] > means[0] else "does not grow"
    return [
        Experiment(
            "fig8",
            "How much does the mean speedup depend on the number of agents?",
            ("", *(f"{count} agents" for count in counts)),
            tuple(rows),
            f"It {grows} with the load: {means[0]:.2f}x for {counts[0]} agents, {means[-1]:.2f}x for {counts[-1]}. Few agents "
            "leave Basic's storage NICs idle for part of the time. The paper's mean is over numbers that are not known.",
        )
    ]


def fig9(lab: Lab) -> list[Experiment]:
    """The speedup by the number of agents."""
    scales = figures.SCALES
    found = {
        count: [lab.speedup(figures.DS660B, count, append_scale=scale) for scale in scales]
        for count in figures.AGENTS_660B
    }
    spread = [max(column) - min(column) for column in zip(*found.values(), strict=True)]
    widest = max(range(len(scales)), key=spread.__getitem__)
    return [
        Experiment(
            "fig9",
            "How much does the speedup depend on the number of agents?",
            ("", *(f"append x{scale:g}" for scale in scales)),
            tuple((f"{count} agents", *(f"{each:.2f}x" for each in speedups)) for count, speedups in found.items()),
            f"Most with append x{scales[widest]:g}, by {spread[widest]:.2f}x: the less there is to read, the more agents it "
            "takes to keep Basic's storage NICs busy. How many the paper ran here is not known.",
        )
    ]


def fig12(lab: Lab) -> list[Experiment]:
    """What the gain of layerwise prefill depends on."""
    agents, rows, gains = figures.AGENTS_660B[-1], [], []
    for what, costs in (
        ("2 ms", {"prefill_layer_s": 0.002}),
        ("as calibrated", {}),
        ("8 ms", {"prefill_layer_s": 0.008}),
    ):
        basic, layerwise = (
            lab.offline(figures.DS660B, mode, agents, costs=costs).jct_s for mode in ("basic", "prefill_only")
        )
        gains.append(layerwise / basic - 1)
        rows.append((what, f"{basic:,.0f} s", f"{layerwise:,.0f} s", f"{gains[-1]:+.1%}"))
    return [
        Experiment(
            "fig12",
            "What does the gain of layerwise prefill depend on?",
            ("fixed time of a layer of a batch", "Basic", "+ layerwise", ""),
            tuple(rows),
            f"On the fixed time of a batch: from {gains[0]:+.1%} to {gains[-1]:+.1%} (the paper: "
            f"{paper.ABLATION['prefill_only']:+.2%}). A prefill node's one storage NIC binds before and after; what layerwise "
            "prefill can hide is what Basic does between two reads.",
        )
    ]


def fig13(lab: Lab) -> list[Experiment]:
    """The balance over shorter times than the whole run."""
    rows = []
    for mode in paper.SNIC_BALANCE:
        found = lab.offline(figures.DS660B, mode, figures.AGENTS_660B[-1])
        rows.append((mode, *(f"{each:.2f}" for each in (*found.snic_in_windows, found.snic_max_over_mean))))
    return [
        Experiment(
            "fig13",
            "Over which time is the balance taken?",
            ("SNIC traffic max/mean", *(f"within {window_s:g} s" for window_s in WINDOWS_S), "whole run"),
            tuple(rows),
            "The rows above are of the whole run, and the paper does not say what its are of. The shorter the time, the less "
            "even any policy is.",
        )
    ]


def fig10(lab: Lab) -> list[Experiment]:
    """Ours beside Basic below and above Basic's limit; and how Basic's limit depends on reading ahead."""
    found = []
    for label, config in (("DS 660B", figures.DS660B), ("DS 27B", figures.DS27B[0])):
        limit = figures.sustained(lab, config, "basic")
        rows, below, above = [], [], []
        for share in SHARES_OF_LIMIT:
            rate = float(f"{share * limit:.3g}")
            basic, ours = (lab.online(config, mode, rate) for mode in ("basic", "scheduled"))
            rows.append(
                (
                    f"{rate:g} ({share:.0%} of Basic's limit)",
                    f"{basic['ttft_s']:.2f} / {ours['ttft_s']:.2f} s",
                    f"{1e3 * basic['ttst_s']:.0f} / {1e3 * ours['ttst_s']:.0f} ms",
                    f"{1e3 * basic['tpot_s']:.1f} / {1e3 * ours['tpot_s']:.1f} ms",
                )
            )
            if share < 1:
                below += [ours[key] / basic[key] - 1 for key in ("ttst_s", "tpot_s")]
            else:
                above.append(ours["ttft_s"] / basic["ttft_s"])
        lower = "at each rate" if max(above) < 1 else "NOT at each rate"
        found.append(
            Experiment(
                "fig10",
                f"{label}: what do TTFT, TTST and TPOT do below and above Basic's limit?",
                ("agents/s", "TTFT, Basic / Ours", "TTST, Basic / Ours", "TPOT, Basic / Ours"),
                tuple(rows),
                f"Above Basic's limit the TTFT of Ours is lower {lower}. Below it TTST and TPOT of Ours are between "
                f"{min(below):+.1%} and {max(below):+.1%} of Basic's (the paper: unchanged).",
            )
        )
    return [*found, _reading_ahead(lab), _slower_transfers(lab)]


def _reading_ahead(lab: Lab) -> Experiment:
    config, agents = figures.DS660B, figures.AGENTS_660B[-1]
    ours_jct, ours_rate = lab.offline(config, "scheduled", agents).jct_s, figures.sustained(lab, config, "scheduled")
    rows, distances = [], []
    for what, mode in (("while the batch before computes", "basic"), ("as part of its batch", NO_READ_AHEAD)):
        speedup = lab.offline(config, mode, agents).jct_s / ours_jct
        gain = ours_rate / figures.sustained(lab, config, mode)
        rows.append((what, f"{speedup:.2f}x", f"{gain:.2f}x"))
        distances.append(abs(speedup / paper.SPEEDUP_660B - 1) + abs(gain / paper.SUSTAINED_660B - 1))
    nearer = "reads ahead" if distances[0] < distances[1] else "does not"
    return Experiment(
        "fig10",
        "DS 660B: when does Basic read a hit?",
        ("Basic reads a hit", "Ours over Basic, offline", "sustained arrivals over Basic"),
        tuple(rows),
        f"The paper does not say. Its {paper.SPEEDUP_660B:g}x and {paper.SUSTAINED_660B:g}x are nearer to those of a Basic that "
        f"{nearer}; all rows here assume that it reads ahead.",
    )


def _slower_transfers(lab: Lab) -> Experiment:
    """The paper finds DS 27B held back by the transfer from prefill to decode engines (section 8)."""
    config, rows, gains = figures.DS27B[0], [], []
    for share in (1.0, SLOW_CNIC):
        ours, basic = (figures.sustained(lab, config, mode, share) for mode in ("scheduled", "basic"))
        gains.append(ours / basic)
        rows.append((f"x{share:g}", f"{ours:.2f}", f"{basic:.2f}", f"{gains[-1]:.2f}x"))
    return Experiment(
        "fig10",
        "DS 27B: what if transfers between engines were slower than their CNICs?",
        ("rate of the CNICs", "Ours, agents/s", "Basic, agents/s", "Ours over Basic"),
        tuple(rows),
        f"{gains[0]:.2f}x becomes {gains[-1]:.2f}x (the paper: {paper.SUSTAINED_27B:g}x). The paper leaves this model's gap to "
        "Oracle in those transfers open; everywhere else here they run at the rate of the data sheet.",
    )


def _absorbed(model: ModelSpec, context: int) -> float:
    return gb_per_pflop(model, context, APPEND_TOKENS)


def _expanded_kept(model: ModelSpec, context: int) -> float:
    """Attention over K (192 elements) and V (128) of every head."""
    return _absorbed(replace(model, qk_dim=192, value_dim=128), context)


def _expanded(model: ModelSpec, context: int) -> float:
    """The same, with K and V of the cached tokens computed from their latents for each prompt."""
    attention = flops_per_token(replace(model, qk_dim=192, value_dim=128), context)
    expansion = 2 * 512 * (128 + 128) * model.heads * model.kv_layers * context / APPEND_TOKENS
    return _expanded_kept(model, context) * attention / (attention + expansion)


EXPERIMENTS: dict[str, Callable[[Lab], Sequence[Experiment]]] = {
    "table1": table1,
    "table3": table3,
    "fig8": fig8,
    "fig9": fig9,
    "fig10": fig10,
    "fig12": fig12,
    "fig13": fig13,
}
