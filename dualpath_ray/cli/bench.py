"""``dualpath bench``: measurements, each beside its limit."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def _rates(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The rates as given, each checked."""
    from dualpath_ray.base.units import parse_bps

    rates = tuple(rate.strip() for rate in (value or "").split(",") if rate.strip())
    try:
        for rate in rates:
            parse_bps(rate)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return rates


def _sizes(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Sizes as given, in bytes."""
    from dualpath_ray.base.units import parse_bytes

    try:
        return tuple(parse_bytes(size) for size in value.split(",") if size.strip())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    sizes = _sizes(context, parameter, value)
    if len(sizes) != 1:
        raise click.BadParameter(f"{value!r} is not one size")
    return sizes[0]


def _live(as_json: bool) -> TextIO:
    """Where progress goes: standard output holds nothing but the result when that is JSON."""
    return sys.stderr if as_json else sys.stdout


def _config_dir(holds: str) -> Callable[[Command], Command]:
    """The option of a benchmark that takes several configurations."""
    return click.option(
        "--config-dir",
        type=click.Path(path_type=Path),
        default=Path("cluster_configs"),
        show_default=True,
        help=holds,
    )


def _results(name: str) -> Callable[[Command], Command]:
    """The options that every benchmark has."""

    def add(command: Command) -> Command:
        as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
        out = click.option(
            "--out",
            type=click.Path(path_type=Path),
            default=Path(f"runs/bench-{name}"),
            show_default=True,
            help="Directory of the results.",
        )
        return as_json(out(command))

    return add


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=1))


@click.group()
def bench() -> None:
    """Measurements, each beside its limit."""


@bench.command()
@_config_dir("Holds laptop_1p1d.yaml, laptop_1p2d.yaml and laptop_2p1d.yaml.")
@click.option(
    "--snic-rates",
    callback=_rates,
    metavar="A,B,C",
    help="Such as '12 MB/s,36 MB/s,2 GB/s': all three systems run at the first, 1P1D at the others, too.",
)
@_results("pool")
def pool(config_dir: Path, snic_rates: tuple[str, ...], as_json: bool, out: Path) -> int:
    """Speedup of the bandwidth pool on 1P1D, 1P2D and 2P1D, from storage-bound to compute-bound; over an hour."""
    from dualpath_ray.bench.pool import run
    from dualpath_ray.ops.rollout import WRONG_TOKENS

    def say(line: str) -> None:
        click.echo(line, err=as_json)  # stdout holds nothing but the result then

    result = run(config_dir=config_dir, snic_rates=snic_rates, out=out, echo=say, live=_live(as_json))
    _print(result, as_json)
    if any(row["tokens_identical"] is False for row in result["rows"]):
        say("the token check FAILED")
        return WRONG_TOKENS
    return 0


@bench.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("cluster_configs/laptop_fast_1p1d.yaml"),
    show_default=True,
    help="A system whose storage NICs are no bottleneck.",
)
@click.option("--pairs", type=click.IntRange(min=1), default=5, show_default=True, help="Interleaved pairs of runs.")
@_results("overhead")
def overhead(config: Path, pairs: int, as_json: bool, out: Path) -> None:
    """What the second path costs where storage is no bottleneck: JCT and CPU seconds, scheduled over prefill_only."""
    from dualpath_ray.bench.overhead import run

    result = run(config, pairs, out, lambda line: click.echo(line, err=as_json), _live(as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("cluster_configs/laptop_fast_1p1d.yaml"),
    show_default=True,
    help="A system whose storage NICs are no bottleneck.",
)
@click.option("--pairs", type=click.IntRange(min=1), default=5, show_default=True, help="Interleaved pairs of runs.")
@_results("metrics")
def metrics(config: Path, pairs: int, as_json: bool, out: Path) -> None:
    """What exporting metrics and state lines costs: CPU seconds a turn, with them over without; ten minutes."""
    from dualpath_ray.bench.metrics import run

    _print(run(config, pairs, out, lambda line: click.echo(line, err=as_json)), as_json)


@bench.command()
@_config_dir("Holds laptop_1p1d.yaml, laptop_1p2d.yaml and laptop_2p1d.yaml.")
@_results("prediction")
def prediction(config_dir: Path, as_json: bool, out: Path) -> None:
    """The simulator, fitted to two live systems, beside three that it has not seen; half an hour."""
    from dualpath_ray.bench.prediction import run

    result = run(config_dir, out, lambda line: click.echo(line, err=as_json), _live(as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1, max=20),
    default=5.0,
    show_default=True,
    help="Of a measurement; there are twenty.",
)
@_results("scheduler")
def scheduler(seconds: float, as_json: bool, out: Path) -> None:
    """Requests that one scheduler places a second, and how long a fetch takes, for 6 to 1,152 engines; five minutes."""
    from dualpath_ray.bench.scheduler import run

    result = run(seconds=seconds, out=out, echo=lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@_config_dir("Holds ds660b_2p4d.yaml and ds660b_48p96d.yaml.")
@click.option("--full", is_flag=True, help="Up to 48K agents on 1,152 GPUs, too; over twenty minutes.")
@_results("simulator")
def simulator(config_dir: Path, full: bool, as_json: bool, out: Path) -> None:
    """Time and memory of simulated runs, from 250 to 2,000 agents (and 48K with --full)."""
    from dualpath_ray.bench.simulator import run

    result = run(config_dir, full, out, lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--block-sizes",
    callback=_sizes,
    default="1 MiB,4 MiB",
    show_default=True,
    metavar="A,B",
    help="Of a Full Block.",
)
@click.option("--total", callback=_size, default="1 GiB", show_default=True, help="Read by each way in a round.")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--path", type=click.Path(path_type=Path), help="On the disk to measure.  [default: temporary directory]")
@_results("storage")
def storage(block_sizes: tuple[int, ...], total: int, rounds: int, path: Path | None, as_json: bool, out: Path) -> None:
    """Blocks from a store into pool slots, beside the simplest loop of direct reads; two minutes."""
    from dualpath_ray.bench.storage import run

    result = run(block_sizes, total, rounds, path, out, lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--block-sizes",
    callback=_sizes,
    metavar="A,B",
    default="16 KiB,36 KiB,64 KiB,128 KiB,512 KiB,2 MiB",
    show_default=True,
)
@click.option("--total", callback=_size, default="256 MiB", show_default=True, help="Copied by each way in a round.")
@click.option(
    "--count",
    "counts",
    type=click.IntRange(min=1),
    multiple=True,
    default=(16, 64, 256, 1024, 4096),
    show_default=True,
    help="Blocks of a copy, in place of the total, by the way chosen for their size.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@_results("h2d")
def h2d(
    block_sizes: tuple[int, ...], total: int, counts: tuple[int, ...], rounds: int, as_json: bool, out: Path
) -> None:
    """Scattered blocks of page-locked slots to the GPU and back, beside one large copy; a minute, needs a GPU."""
    from dualpath_ray.bench.h2d import run

    result = run(block_sizes, total, counts, rounds, out, lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("cluster_configs/laptop_1p1d.yaml"),
    show_default=True,
    help="System to run.",
)
@click.option(
    "--transport",
    "transports",
    multiple=True,
    default=("sockets",),
    show_default=True,
    help="Beside the default; may be given several times.",
)
@click.option(
    "--kv-dtype",
    "kv_dtypes",
    multiple=True,
    help="Type of stored KV, beside the configured one, through the default transport; may be given several times.",
)
@click.option("--mode", "modes", multiple=True, default=("prefill_only", "scheduled"), show_default=True)
@_results("end2end")
def end2end(
    config: Path,
    transports: tuple[str, ...],
    kv_dtypes: tuple[str, ...],
    modes: tuple[str, ...],
    as_json: bool,
    out: Path,
) -> None:
    """The main job through each transport and with each type of KV: its tokens, and what it costs; minutes for each."""
    from dualpath_ray.bench.end2end import run

    result = run(config, transports, kv_dtypes, modes, out, lambda line: click.echo(line, err=as_json), _live(as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--model", "models", multiple=True, default=("random-qwen2.5-7b", "random-deepseek-v3-4l"), show_default=True
)
@click.option("--batch", "batches", type=click.IntRange(min=1), multiple=True, default=(1, 2, 4, 8), show_default=True)
@click.option(
    "--cached", type=click.IntRange(min=64), default=32768, show_default=True, help="Cached tokens a request."
)
@click.option("--new", type=click.IntRange(min=1), default=429, show_default=True, help="New tokens a request.")
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@_results("layerwise")
def layerwise(
    models: tuple[str, ...],
    batches: tuple[int, ...],
    cached: int,
    new: int,
    rounds: int,
    as_json: bool,
    out: Path,
) -> None:
    """Prefill over cached context, layers brought while others compute, beside its bound; minutes, needs a GPU."""
    from dualpath_ray.bench.layerwise import run

    result = run(models, batches, cached, new, rounds, out, lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("timed-8l-5ms",),
    show_default=True,
    help="Of the engines that are measured; timed-8l-5ms computes nothing and takes 5 ms for each of 8 layers.",
)
@click.option("--pairs", type=click.IntRange(min=1), default=5, show_default=True, help="Windows without and with KV.")
@click.option("--window", type=click.FloatRange(min=0.5), default=6.0, show_default=True, help="Seconds of a window.")
@_results("isolation")
def isolation(models: tuple[str, ...], pairs: int, window: float, as_json: bool, out: Path) -> None:
    """What KV traffic does to model execution on an emulated compute NIC, in lanes of their own and in one."""
    from dualpath_ray.bench.isolation import run

    result = run(models, pairs, window, out, lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--rates", callback=_rates, default="200 MB/s,2 GB/s", show_default=True, metavar="A,B", help="Of the emulated NIC."
)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Of a measurement.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@_results("lanes")
def lanes(rates: tuple[str, ...], seconds: float, rounds: int, as_json: bool, out: Path) -> None:
    """Packets that the lanes' arbiter decides a second, and an emulated NIC's rate beside its nominal one; two minutes."""
    from dualpath_ray.bench.lanes import run

    result = run(rates, seconds, rounds, out, lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@click.option("--model", "models", multiple=True, default=("random-qwen2.5-7b",), show_default=True)
@click.option(
    "--batch", "batches", type=click.IntRange(min=1), multiple=True, default=(1, 2, 4, 8, 16, 32), show_default=True
)
@click.option("--context", type=click.IntRange(min=1), default=2048, show_default=True, help="Tokens of a sequence.")
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@_results("decode")
def decode(
    models: tuple[str, ...], batches: tuple[int, ...], context: int, rounds: int, as_json: bool, out: Path
) -> None:
    """Decode steps as recorded graphs, beside launching them; a minute, needs a GPU."""
    from dualpath_ray.bench.decode import run

    result = run(models, batches, context, rounds, out, lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--block-sizes", callback=_sizes, metavar="A,B", default="64 KiB,1 MiB,4 MiB", show_default=True, help="Of a block."
)
@click.option("--total", callback=_size, default="128 MiB", show_default=True, help="Moved by each way in a round.")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@_results("transport")
def transport(block_sizes: tuple[int, ...], total: int, rounds: int, as_json: bool, out: Path) -> None:
    """Blocks between the pools of two processes of this host, beside memcpy; some minutes."""
    from dualpath_ray.bench.transport import run

    result = run(block_sizes, total, rounds, out, lambda line: click.echo(line, err=as_json))
    _print(result, as_json)


@bench.command()
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("docs/benchmarks"),
    show_default=True,
    help="Directory of the results.",
)
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: the directory's name with .md]")
def tables(results: Path, out: Path | None) -> None:
    """The results of all benchmarks as one page of tables, and pictures beside them."""
    from dualpath_ray.bench.pages import all_pictures, page
    from dualpath_ray.ops.results_dir import writing_to

    target = out or results.with_suffix(".md")
    text = page(results)
    with writing_to(target):
        target.write_text(text)
        for name, svg in all_pictures(results).items():
            (results / name).write_text(svg)
    click.echo(f"{target}: {text.count('## ')} benchmarks")
