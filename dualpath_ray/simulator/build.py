"""From a configuration to what is simulated: every value filled in, and what cannot work refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.units import bytes_per_s, format_bytes
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.costs import Efficiency, FittedCosts, efficiency_of
from dualpath_ray.config.hardware import HardwareConfig, hardware_of
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.models.load import load_model
from dualpath_ray.models.spec import ModelSpec, weight_bytes
from dualpath_ray.scheduler.state import FetchLimits
from dualpath_ray.simulator.costs import DecodeCosts, PrefillCosts, PrefillModel
from dualpath_ray.simulator.data_sheet import decode_costs, prefill_costs
from dualpath_ray.simulator.spec import ClusterSpec, Delays, NodeRates
from dualpath_ray.workload.limits import PREPENDED_TOKENS
from dualpath_ray.workload.trajectory import TrajectoryLengths

ALPHA_S, BETA_S = 3.0, 5.0  # section 6: what a node reads, and a GPU prefills, in this time
_NO_LIMIT_TOKENS = 2**40


@dataclass(frozen=True, slots=True)
class TypicalTurn:
    """Means over the turns of a workload, in tokens: what beta is profiled with."""

    cached_tokens: int
    new_tokens: int
    longest_tokens: int


def typical_turn(trajectories: Sequence[TrajectoryLengths]) -> TypicalTurn:
    """Of these trajectories. Raises: ConfigError when they have no turn."""
    num_turns = cached = new = 0
    for trajectory in trajectories:
        context = 0
        for append, gen, _ in trajectory.turns:
            num_turns, cached, new = num_turns + 1, cached + context, new + append
            context += append + gen
    if not num_turns:
        raise ConfigError("trace: there is no turn in it")
    longest = max(t.total_tokens for t in trajectories) + PREPENDED_TOKENS + 1  # with a repeat's random first round
    return TypicalTurn(cached // num_turns, max(1, new // num_turns), longest)


def cluster_spec(
    config: ClusterConfig, source: str, turn: TypicalTurn, costs: Efficiency | FittedCosts | None = None
) -> ClusterSpec:
    """Fill in every value.

    Args:   source: names the configuration in errors; turn: of the workload; costs: of a file, else the packaged ones.
    Raises: ConfigError in one sentence that names the source and the key.
    """
    try:
        model = load_model(config.model)
        if isinstance(costs, FittedCosts):
            return _fitted(config, turn, model, costs)
        hardware = hardware_of(config, source)
        return _on_hardware(config, turn, model, hardware, costs or efficiency_of(hardware.name, model.name))
    except ConfigError as error:
        raise error if str(error).startswith(source) else ConfigError(f"{source}: {error}") from error


def _layout(config: ClusterConfig, model: ModelSpec) -> KvLayout:
    per_layer = model.kv_elements_per_token_layer * model.kv_element_bytes
    return KvLayout(model.kv_layers, config.block_tokens, per_layer)


def _on_hardware(
    config: ClusterConfig, turn: TypicalTurn, model: ModelSpec, hardware: HardwareConfig, efficiency: Efficiency
) -> ClusterSpec:
    layout, engine = _layout(config, model), config.engine
    weights = weight_bytes(model)
    usable = hardware.hbm_bytes * efficiency.hbm_usable_ratio
    free: dict[str, int] = {}
    shards: dict[str, int] = {}
    for role, nodes, given in (
        ("prefill", config.prefill_nodes, engine.prefill_shard_nodes),
        ("decode", config.decode_nodes, engine.decode_shard_nodes),
    ):
        spread = min(given or nodes, nodes)
        if nodes % spread:
            raise ConfigError(
                f"engine.{role}_shard_nodes: {nodes} {role} nodes are no multiple of {spread}, over which a copy of the "
                "weights is spread"
            )
        shards[role] = spread * hardware.gpus
        free[role] = int((usable - weights / shards[role]) / layout.token_bytes)
        if free[role] <= 0:
            raise ConfigError(
                f"{role}_nodes: the {format_bytes(weights)} of weights of {model.name} on {shards[role]} GPUs leave no room "
                f"in their {format_bytes(hardware.hbm_bytes)}; more nodes are needed to hold it"
            )
    hbm_tokens = engine.hbm_kv_bytes // layout.token_bytes if engine.hbm_kv_bytes else free["decode"]
    rates = NodeRates(
        snic_in=bytes_per_s(hardware.snic_bps),
        snic_out=bytes_per_s(config.node.snic_write_bps or hardware.snic_bps),
        cnic=bytes_per_s(hardware.cnic_bps),
        dram=float(hardware.dram_bytes_per_s),
        loopback=True,
    )
    per_layer = max(1, layout.num_layers // config.node.staging_layers) if config.scheduler.layerwise else 1
    if free["prefill"] * per_layer < turn.longest_tokens:
        raise ConfigError(
            f"prefill_nodes: a prefill GPU has HBM for {free['prefill'] * per_layer} tokens at a time, too few for one "
            f"request of {turn.longest_tokens}; more prefill nodes share the weights, or --token-scale makes contexts shorter"
        )
    return _spec(
        config,
        turn,
        model,
        rates,
        prefill_costs(model, hardware, efficiency),
        decode_costs(model, hardware, efficiency, shards["decode"]),
        Delays(submit_s=efficiency.submit_s, hand_over_s=efficiency.hand_over_s),
        engines=hardware.gpus,
        max_rows=free["prefill"] * per_layer,
        prefill_group=shards["prefill"],
        hbm_tokens=hbm_tokens,
    )


def _fitted(config: ClusterConfig, turn: TypicalTurn, model: ModelSpec, costs: FittedCosts) -> ClusterSpec:
    if costs.model != config.model:
        raise ConfigError(f"--costs: they were fitted to {costs.model}, but this system runs {config.model}")
    node = config.node
    snic = bytes_per_s(node.snic_bps) if node.snic_bps else costs.read_bytes_per_s
    rates = NodeRates(
        snic_in=snic,
        snic_out=bytes_per_s(node.snic_write_bps) if node.snic_write_bps else snic,
        cnic=bytes_per_s(node.cnic_bps) if node.cnic_bps else None,
    )
    context = config.engine.max_context_tokens or turn.longest_tokens
    layout = _layout(config, model)
    hbm = config.engine.hbm_kv_bytes
    return _spec(
        config,
        turn,
        model,
        rates,
        PrefillCosts(**costs.prefill.model_dump()),
        DecodeCosts(**costs.decode.model_dump()),
        Delays(**costs.delays.model_dump()),
        engines=node.gpus,
        max_rows=context,
        hbm_tokens=hbm // layout.token_bytes if hbm else 8 * context,
        beta_tokens=int(BETA_S * costs.prompt_tokens_per_s),
        cores=costs.cores,
        threads=costs.threads,
    )


def _spec(
    config: ClusterConfig,
    turn: TypicalTurn,
    model: ModelSpec,
    rates: NodeRates,
    prefill: PrefillCosts,
    decode: DecodeCosts,
    delays: Delays,
    *,
    engines: int,
    max_rows: int,
    hbm_tokens: int,
    beta_tokens: int | None = None,
    prefill_group: int = 1,
    cores: int | None = None,
    threads: int = 1,
) -> ClusterSpec:
    layout, scheduler, node = _layout(config, model), config.scheduler, config.node
    context = max(turn.longest_tokens, 1)
    longest = layout.num_blocks(context)
    pe_blocks = node.pe_buffer_bytes // layout.slot_bytes if node.pe_buffer_bytes else 4 * engines * longest
    de_blocks = node.de_buffer_bytes // layout.slot_bytes if node.de_buffer_bytes else 8 * engines * longest
    for key, blocks in (("node.pe_buffer_bytes", pe_blocks), ("node.de_buffer_bytes", de_blocks)):
        if blocks < longest:
            raise ConfigError(f"{key}: the buffer holds {blocks} blocks, but the longest context takes {longest}")
    if hbm_tokens < context:
        raise ConfigError(
            f"engine.hbm_kv_bytes: a decode engine has HBM for {hbm_tokens} tokens, too few for one request of {context}; "
            "more decode nodes share the weights, or --token-scale makes contexts shorter"
        )
    profiled = beta_tokens or int(
        BETA_S * PrefillModel(prefill, model).prompt_tokens_per_s(turn.cached_tokens, turn.new_tokens)
    )
    beta = scheduler.beta_tokens or profiled
    alpha = scheduler.alpha_tokens or (int(ALPHA_S * rates.snic_in / layout.token_bytes) if rates.snic_in else 0)
    if scheduler.oracle:
        rates = NodeRates(None, None, None, None, rates.loopback)
    return ClusterSpec(
        prefill_nodes=config.prefill_nodes,
        decode_nodes=config.decode_nodes,
        engines=engines,
        model=model,
        layout=layout,
        rates=rates,
        prefill_costs=prefill,
        decode_costs=decode,
        delays=delays,
        limits=FetchLimits(
            short_read_queue_tokens=alpha or _NO_LIMIT_TOKENS,
            max_unfinished_tokens=max(1, beta),
            token_bytes=layout.token_bytes,
            block_tokens=layout.block_tokens,
        ),
        read_path=scheduler.read_path,
        layerwise=scheduler.layerwise,
        prefetch=scheduler.prefetch,
        quota_s=scheduler.compute_quota_s if scheduler.quota else None,
        oracle=scheduler.oracle,
        min_chunk_tokens=scheduler.min_chunk_tokens,
        max_batch_tokens=config.engine.max_batch_tokens if scheduler.quota else max_rows,
        max_rows=max(max_rows, context),
        pe_blocks=pe_blocks,
        de_blocks=de_blocks,
        hbm_tokens=hbm_tokens,
        report_interval_s=scheduler.fetch_interval_s,
        storage_bytes_per_s=bytes_per_s(config.storage.servers_bps) if config.storage.servers_bps else None,
        prefill_group=prefill_group,
        cores=cores,
        threads=threads,
    )
