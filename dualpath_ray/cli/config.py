"""``dualpath config``: effective values, and where each came from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dualpath_ray.base.units import format_bytes, format_rate

if TYPE_CHECKING:
    from dualpath_ray.cluster.plan import SystemPlan
    from dualpath_ray.config.cluster import ClusterConfig


@click.group()
def config() -> None:
    """Show what a configuration file amounts to."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path) -> None:
    """Every key with its effective value and where that came from, and what follows from them."""
    from dualpath_ray.config.load import effective, parse_cluster, read_yaml

    given = read_yaml(file)
    parsed = parse_cluster(given, str(file))
    rows = [(key, shown(key, value), source) for key, value, source in effective(parsed, given, str(file))]
    _print(rows)
    click.echo("\nfollows from these and the model")
    _print(derived_rows(parsed, str(file)))


@config.command("reference")
def reference_() -> None:
    """Print every key with its default and meaning, as Markdown: docs/configuration.md."""
    from dualpath_ray.config.reference import reference

    click.echo(reference(), nl=False)


def shown(key: str, value: Any) -> str:
    """A value as people read it; the key's ending tells its unit."""
    if value is None:
        return "unset"
    if key.endswith("_bps"):
        return format_rate(value)
    if key.endswith("_bytes"):
        return format_bytes(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict) and value:
        return ", ".join(f"{name}: {each}" for name, each in value.items())
    return str(value)


def _print(rows: list[tuple[str, str, str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, source in rows:
        click.echo(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {source}".rstrip())


def derived_rows(parsed: "ClusterConfig", source: str) -> list[tuple[str, str, str]]:
    """Values that depend on the model or the machine; without the model, what to do about it."""
    from dualpath_ray.base.errors import ConfigError
    from dualpath_ray.engine.pull import is_on_hub

    try:
        if is_on_hub(parsed.model):
            return [("(not known)", f"model {parsed.model} is on the hub: a run fetches it, this command does not", "")]
    except ConfigError as error:
        return [("(not known)", str(error), "")]
    from dualpath_ray.cluster.plan import make_plan

    return _plan_rows(make_plan(parsed, source))


def _plan_rows(plan: "SystemPlan") -> list[tuple[str, str, str]]:
    layout = plan.layout
    tokens = layout.block_tokens

    def buffer(slots: int) -> str:
        return f"{format_bytes(slots * layout.slot_bytes)}: {slots} blocks, {slots * tokens} tokens"

    return [
        (
            "KV of a token",
            format_bytes(layout.token_bytes),
            f"{layout.num_layers} layers, {plan.config.engine.stored_dtype}",
        ),
        (
            "full block",
            format_bytes(layout.full_block_bytes),
            f"{tokens} tokens, {format_bytes(layout.sealed_bytes)} sealed",
        ),
        ("longest context", f"{plan.max_context_tokens} tokens", "engine.max_context_tokens"),
        ("PE buffer of a node", buffer(plan.pe_slots), "node.pe_buffer_bytes"),
        ("DE buffer of a node", buffer(plan.de_slots), "node.de_buffer_bytes"),
        ("staging of a prefill node", format_bytes(plan.staging_bytes), f"{plan.staging_layers} layers in flight"),
        ("KV memory of a decode engine", f"{plan.hbm_tokens} tokens", "engine.hbm_kv_bytes"),
        ("shared memory in all", format_bytes(plan.shared_memory_bytes()), f"{len(plan.config.node_names)} nodes"),
        ("CPUs of an engine", f"{plan.cpus_per_engine:g}", f"{plan.num_engines} engines share this machine"),
    ]
