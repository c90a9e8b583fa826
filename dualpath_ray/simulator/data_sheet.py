"""An engine's costs from its hardware's data sheet and the share of the peaks that it reaches. Pure arithmetic."""

from dualpath_ray.config.costs import Efficiency
from dualpath_ray.config.hardware import HardwareConfig
from dualpath_ray.models.spec import ModelSpec, weight_bytes
from dualpath_ray.simulator.costs import DecodeCosts, PrefillCosts


def peak_flops(model: ModelSpec, hardware: HardwareConfig) -> float:
    """Of the type that the weights are in: FP8 where they are and the GPU has it, else BF16."""
    fp8 = hardware.flops.fp8 if model.weight_bytes_per_parameter <= 1 else None
    return float(fp8 or hardware.flops.bf16)


def prefill_costs(model: ModelSpec, hardware: HardwareConfig, efficiency: Efficiency) -> PrefillCosts:
    """Two FLOPs for each active parameter of a new token; attention at a share of its own."""
    peak = peak_flops(model, hardware)
    return PrefillCosts(
        batch_s=efficiency.prefill_layer_s * model.num_layers,
        request_s=0.0,
        token_s=2 * model.active_parameters / (peak * efficiency.prefill_flops_ratio),
        s_per_attention_flop=1 / (peak * efficiency.attention_flops_ratio),
    )


def decode_costs(model: ModelSpec, hardware: HardwareConfig, efficiency: Efficiency, shards: int) -> DecodeCosts:
    """A step reads this GPU's share of the weights once, and of each sequence what its attention looks at.

    Args: shards: GPUs that hold one copy of the weights between them.
    """
    bandwidth = hardware.hbm_bytes_per_s * efficiency.hbm_ratio
    element = model.kv_element_bytes
    per_layer = model.kv_elements_per_token_layer
    if model.top_k_tokens is None:
        per_context, per_sequence = per_layer * element, 0
    else:  # the indexer looks at its key of every token, attention at the latent of the top-k
        per_context = model.indexer_dim * element
        per_sequence = model.top_k_tokens * (per_layer - model.indexer_dim) * element
    return DecodeCosts(
        step_s=efficiency.decode_layer_s * model.num_layers + weight_bytes(model) / shards / bandwidth,
        sequence_s=2 * model.active_parameters / (peak_flops(model, hardware) * efficiency.decode_flops_ratio)
        + model.kv_layers * per_sequence / bandwidth,
        context_s=model.kv_layers * per_context / bandwidth,
    )
