"""``dualpath fabric``: what keeps KV from slowing the model down, as files for a real network, and whether a host has it."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from dualpath_ray.cli.errors import FAILED, OK


@click.command(short_help="Network files of the traffic classes: write them, or compare.")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("written", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Directory of the files.")
@click.option(
    "--kind", type=click.Choice(["infiniband", "roce"]), help="Of the network.  [default: fabric.kind of CONFIG]"
)
@click.option("--verify", is_flag=True, help="Name what differs on this host, or in WRITTEN.")
@click.option("--json", "as_json", is_flag=True, help="Print what --verify found as JSON.")
def fabric(config: Path, written: Path | None, out: Path | None, kind: str | None, verify: bool, as_json: bool) -> int:
    """Write what puts each traffic class of a CONFIG file into its lane: for opensm, NICs, switches, NCCL and UCX.

    With --verify nothing is written: this host's devices, NIC queues or lanes and this process' environment are
    compared with CONFIG, or with WRITTEN a directory that --out wrote. The exit code is 1 when something differs.
    """
    from dualpath_ray.base.errors import ConfigError
    from dualpath_ray.base.nic_devices import read_devices
    from dualpath_ray.config.load import load_cluster
    from dualpath_ray.ops.fabric import finding
    from dualpath_ray.ops.fabric.files import fabric_files, write_files
    from dualpath_ray.ops.fabric.host import examine
    from dualpath_ray.ops.fabric.written import compare_written

    if verify == (out is not None):
        raise ConfigError("use either --out DIR, to write files, or --verify, to compare")
    if written is not None and not verify:
        raise ConfigError(f"{written}: files that were written are only compared; add --verify in the place of --out")
    cluster = load_cluster(config, {"fabric.kind": kind})
    host = read_devices()
    if out is not None:
        files = fabric_files(cluster, host)
        write_files(out, files)
        for file in files:
            click.echo(out / file.name)
        return OK
    found = compare_written(written, fabric_files(cluster, host)) if written else examine(cluster, host, os.environ)
    click.echo(json.dumps([asdict(each) for each in found], indent=2) if as_json else "\n".join(finding.lines(found)))
    return FAILED if finding.differs(found) else OK
