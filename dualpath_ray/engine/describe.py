"""What a model is before its weights are loaded: KV layout, limits, fingerprint. Refuses what cannot be served."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.units import format_bytes
from dualpath_ray.engine.timed import describe_timed, is_timed
from dualpath_ray.engine.toy import is_toy, toy_config, toy_shape

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float8_e4m3": 1}


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Facts of a model that every process agrees on."""

    model: str  # directory, hub name or toy name, as the engine loads it
    fingerprint: str
    architecture: str
    num_layers: int
    num_heads: int
    head_dim: int
    kv_elements_per_token_layer: int
    latent: bool  # MLA: the latent is cached, not keys and values
    index_elements: int  # of each token's indexer key, cached behind its latent; 0 without an indexer
    vocab_size: int
    max_context_tokens: int
    end_token_ids: tuple[int, ...]
    weight_bytes: int

    def bytes_per_token_layer(self, dtype: str) -> int:
        return self.kv_elements_per_token_layer * DTYPE_BYTES[dtype]


def describe(model: str, dtype: str, seed: int) -> ModelDescription:
    """Read a model's configuration.

    Raises: ConfigError naming the key ``model`` when it is missing, broken, of a kind that is not served, or too large
        for this machine's memory.
    """
    if is_timed(model):
        return describe_timed(model)
    config = toy_shape(model) if is_toy(model) else read_config(model)
    return describe_config(config, model, dtype, seed)


def describe_config(config: Any, model: str, dtype: str, seed: int) -> ModelDescription:
    """A model whose configuration has been read. Raises: as ``describe``."""
    _refuse_sliding_windows(model, config)
    _refuse_unknown_shapes(model, config)
    heads = int(config.num_attention_heads)
    latent = getattr(config, "kv_lora_rank", None) is not None
    if latent:
        head_dim = int(config.qk_nope_head_dim + config.qk_rope_head_dim)
        elements = int(config.kv_lora_rank + config.qk_rope_head_dim)
    else:
        head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        elements = 2 * int(getattr(config, "num_key_value_heads", None) or heads) * head_dim
    index_elements = int(getattr(config, "index_head_dim", None) or 0)  # a key of the indexer
    if index_elements and config.model_type != "deepseek_v32":
        raise ConfigError(
            f"model: {model} ({type(config).__name__}) has an indexer of its own kind; of models with one, DeepSeek-V3.2 is served"
        )
    return ModelDescription(
        model=model,
        fingerprint=_fingerprint(model, config, dtype, seed),
        architecture=(getattr(config, "architectures", None) or [type(config).__name__])[0],
        num_layers=int(config.num_hidden_layers),
        num_heads=heads,
        head_dim=head_dim,
        kv_elements_per_token_layer=elements + index_elements,
        latent=latent,
        index_elements=index_elements,
        vocab_size=int(config.vocab_size),
        max_context_tokens=int(config.max_position_embeddings),
        end_token_ids=_end_tokens(model, config),
        weight_bytes=_checked_weight_bytes(model, dtype),
    )


def read_config(model: str) -> Any:
    """The transformers configuration of a model. Raises: ConfigError naming the key ``model``."""
    if is_toy(model):
        return toy_config(model)
    from transformers import AutoConfig

    path = Path(model)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ConfigError(f"model: {model} holds no config.json; name a Hugging Face model directory")
    try:
        return AutoConfig.from_pretrained(model)
    except (
        Exception
    ) as error:  # transformers raises OSError, ValueError, KeyError and others for one cause: no such model
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"model: {model} is no model that can be read here ({reason})") from error


def _refuse_unknown_shapes(model: str, config: Any) -> None:
    wanted = ("num_attention_heads", "num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings")
    missing = [name for name in wanted if getattr(config, name, None) is None]
    if missing:
        raise ConfigError(
            f"model: {model} ({type(config).__name__}) is no plain language model: its configuration has no {missing[0]}; use "
            "a text model (Llama, Qwen2, Qwen3, DeepSeek-V3 and V3.2)"
        )


def _refuse_sliding_windows(model: str, config: Any) -> None:
    config = getattr(config, "text_config", config)  # a multimodal model keeps its language model's in there
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"indexed_attention"}
    kinds = kinds or {"full_attention"}
    window = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    if kinds != {"full_attention"} or (window and not getattr(config, "layer_types", None)):
        raise ConfigError(
            f"model: {model} ({type(config).__name__}) has sliding-window or linear attention layers, whose cache is no "
            "prefix of whole blocks; use a model with full attention in every layer (Llama, Qwen2, Qwen3, DeepSeek-V3 and V3.2)"
        )


def _end_tokens(model: str, config: Any) -> tuple[int, ...]:
    path = Path(model) / "generation_config.json"
    try:
        ids = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
    except ValueError as error:
        raise ConfigError(f"model: {path} is no valid JSON; pull the model again") from error
    ids = config.eos_token_id if ids is None else ids
    return tuple(ids) if isinstance(ids, list | tuple) else () if ids is None else (int(ids),)


def _weight_files(model: str) -> list[Path]:
    path = Path(model)
    return sorted(path.glob("*.safetensors")) if path.is_dir() else []


def _checked_weight_bytes(model: str, dtype: str) -> int:
    """Bytes of the weights in memory; they must fit into what this machine has free."""
    import psutil

    files = _weight_files(model)
    if Path(model).is_dir() and not files:
        raise ConfigError(f"model: {model} holds no *.safetensors weights; pull or convert the model first")
    _check_shards(model, files)
    elements = 0
    for file in files:
        for name, tensor in _safetensors_header(file).items():
            if name != "__metadata__":
                count = 1
                for dim in tensor["shape"]:
                    count *= dim
                elements += count
    needed = elements * DTYPE_BYTES[dtype]
    free = psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"model: {model} needs {format_bytes(needed)} for its weights in {dtype}, and one engine must hold them all, "
            f"but this machine has {format_bytes(free)} free; use a smaller model"
        )
    return needed


def _check_shards(model: str, files: list[Path]) -> None:
    """Raises: ConfigError naming a file of a sharded model that is not there."""
    index = Path(model) / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        named = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"model: {index} is corrupt; fetch the model again") from error
    missing = sorted(named - {file.name for file in files})
    if missing:
        raise ConfigError(f"model: {Path(model) / missing[0]} is missing; fetch the model again")


def _safetensors_header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        raw = stream.read(size) if 0 < size <= min(100 << 20, file.stat().st_size) else b""
    try:
        header: dict[str, Any] = json.loads(raw)
        end = max(t["data_offsets"][1] for n, t in header.items() if n != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"model: {file} is corrupt (no safetensors header); pull the model again") from error
    if 8 + size + end != file.stat().st_size:
        raise ConfigError(f"model: {file} is corrupt (cut short); pull the model again")
    return header


def _fingerprint(model: str, config: Any, dtype: str, seed: int) -> str:
    """Digest of architecture and weights: configuration, and a sample of each weight file."""
    toy = is_toy(model)
    text = json.dumps(vars(config), default=str) + f"{model} {seed}" if toy else config.to_json_string()
    digest = hashlib.sha256((text + dtype).encode())
    for file in _weight_files(model):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for offset in range(0, size, max(1, size // 16)):
                stream.seek(offset)
                digest.update(stream.read(65536))
    return digest.hexdigest()[:32]
