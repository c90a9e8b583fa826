"""``dualpath drain``, ``undrain``, ``set`` and ``scale``: a running system is changed."""

import click

from dualpath_ray.cli.system_options import of_a_system


@click.command(short_help="Give a node no new work.")
@click.argument("node")
@of_a_system
@click.option("--wait/--no-wait", default=True, show_default=True, help="Return when it has handed off what it had.")
def drain(node: str, name: str | None, address: str | None, wait: bool) -> None:
    """Give a NODE (such as d1) no new requests; what it has it finishes."""
    from dualpath_ray.ops.lifecycle import change
    from dualpath_ray.ops.lifecycle.connection import joined

    with joined(address):
        change.drain(name, node, wait, click.echo)


@click.command(short_help="Give a drained node work again.")
@click.argument("node")
@of_a_system
def undrain(node: str, name: str | None, address: str | None) -> None:
    """Give a drained NODE requests again."""
    from dualpath_ray.ops.lifecycle import change
    from dualpath_ray.ops.lifecycle.connection import joined

    with joined(address):
        change.undrain(name, node, click.echo)


@click.command("set", short_help="Change the read path of a running system.")
@click.argument("setting", metavar="KEY=VALUE")
@of_a_system
def set_(setting: str, name: str | None, address: str | None) -> None:
    """Change a setting of a running system, from its next decision on.

    read_path=prefill_only turns the dual path off, read_path=scheduled on again.
    """
    from dualpath_ray.base.errors import ConfigError
    from dualpath_ray.ops.lifecycle import change
    from dualpath_ray.ops.lifecycle.connection import joined

    key, sign, value = setting.partition("=")
    if not sign:
        raise ConfigError(f"{setting}: write KEY=VALUE, such as read_path=prefill_only")
    with joined(address):
        change.set_value(name, key, value, click.echo)


@click.command(short_help="Add nodes to a running system, or take some away.")
@of_a_system
@click.option("--prefill", type=int, metavar="N", help="Prefill nodes that there should be.")
@click.option("--decode", type=int, metavar="M", help="Decode nodes that there should be.")
def scale(name: str | None, address: str | None, prefill: int | None, decode: int | None) -> None:
    """Let so many nodes of a role be there. Those that leave hand off first; for those that join Ray is asked for room.

    Where Ray has an autoscaler it adds what they need, and takes away what is left over.
    """
    from dualpath_ray.ops.lifecycle import change
    from dualpath_ray.ops.lifecycle.connection import joined

    with joined(address):
        change.scale(name, prefill, decode, click.echo)
