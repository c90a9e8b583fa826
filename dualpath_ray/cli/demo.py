"""``dualpath demo``: the main job on this machine."""

import click


@click.command(short_help="A real model on real text: single path against dual path.")
def demo() -> int:
    """A real model on real text: single path against dual path, with a picture at the end.

    Pulls the model when it is not here, then compares prefill_only, scheduled and oracle on one prefill and one decode
    node with emulated NICs. Results go to runs/latest.
    """
    from dualpath_ray.ops.demo import run_demo

    return run_demo(click.echo)
