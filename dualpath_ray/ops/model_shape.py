"""A model that runs here, as planning sees it: parameters counted, and the KV that our engine keeps."""

from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.engine.describe import DTYPE_BYTES, ModelDescription, read_config
from dualpath_ray.models.spec import ModelSpec


def planning_spec(found: ModelDescription, dtype: str) -> ModelSpec:
    """Shape of a described model, with weights and KV in ``dtype``; its weights need not be here.

    Raises: ConfigError when transformers cannot lay out such a model, or its experts cannot be told from its names.
    """
    config = read_config(found.model)
    skeleton = _skeleton(found.model, config)
    sizes = {name: parameter.numel() for name, parameter in skeleton.named_parameters()}  # a shared matrix stands once
    total = sum(sizes.values())
    tied = skeleton.get_output_embeddings().weight is skeleton.get_input_embeddings().weight
    every_token = total - (0 if tied else skeleton.get_input_embeddings().weight.numel())
    experts = {name: size for name, size in sizes.items() if ".experts." in name}
    layers = len({name.partition(".experts.")[0] for name in experts})
    routed, per_token = _expert_counts(found.model, config) if experts else (0, 0)
    expert = sum(experts.values()) // (layers * routed) if experts else 0
    qk_dim = found.kv_elements_per_token_layer - found.index_elements if found.latent else found.head_dim
    indexed = found.index_elements > 0
    return ModelSpec(
        name=found.model,
        num_layers=found.num_layers,
        hidden=int(config.hidden_size),
        heads=found.num_heads,
        kv_heads=1 if found.latent else found.kv_elements_per_token_layer // (2 * found.head_dim),
        head_dim=qk_dim,
        kv_elements_per_token_layer=found.kv_elements_per_token_layer,
        kv_element_bytes=DTYPE_BYTES[dtype],
        active_parameters=every_token - layers * (routed - per_token) * expert,
        total_parameters=total,
        weight_bytes_per_parameter=DTYPE_BYTES[dtype],
        max_context_tokens=found.max_context_tokens,
        kv_layers=found.num_layers,
        qk_dim=qk_dim,
        value_dim=int(config.kv_lora_rank) if found.latent else found.head_dim,
        moe_layers=layers,
        routed_experts=routed,
        experts_per_token=per_token,
        expert_parameters=expert,
        top_k_tokens=int(config.index_topk) if indexed else None,
        indexer_heads=int(config.index_n_heads) if indexed else 0,
        indexer_dim=found.index_elements,
    )


def _skeleton(model: str, config: Any) -> Any:
    """The model without memory for its weights."""
    import torch
    import transformers

    try:
        with torch.device("meta"):
            return transformers.AutoModelForCausalLM.from_config(config)
    except Exception as error:  # transformers has no error tree of its own
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"model: {model} cannot be laid out ({reason})") from error


def _expert_counts(model: str, config: Any) -> tuple[int, int]:
    """(routed experts of a layer, experts of a token): each family has its own name for the first."""
    names = ("n_routed_experts", "num_experts", "num_local_experts")
    routed = next((int(getattr(config, name)) for name in names if getattr(config, name, None)), 0)
    per_token = int(getattr(config, "num_experts_per_tok", None) or 0)
    if not routed or not per_token:
        raise ConfigError(f"model: {model} has experts, but its configuration does not say how many a token takes")
    return routed, per_token
