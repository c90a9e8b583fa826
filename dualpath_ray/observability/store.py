"""The files of a comparison: written after every run and at its end, read back by notebooks.

``summary.json`` the numbers (``summary.py``); ``requests.parquet`` one row a turn; ``nic_samples.parquet`` one row a
sample of a NIC's counters; ``decisions.jsonl`` one line a decision of the scheduler; ``config.yaml`` the effective
configuration; ``versions.json``; ``report.html`` if given.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.observability.run_record import Comparison, NicSample, TurnRecord
from dualpath_ray.observability.summary import json_clean
from dualpath_ray.observability.turn_columns import TurnColumns

_ARROW_TYPES: dict[Any, str] = {str: "string", int: "int64", float: "float64"}
_FILES = ("summary.json", "requests.parquet", "nic_samples.parquet", "config.yaml", "versions.json")


@dataclass(frozen=True, slots=True)
class Results:
    """What a comparison left behind; the tables are ``pyarrow.Table``."""

    summary: dict[str, Any]
    requests: Any
    nic_samples: Any
    config: dict[str, Any]
    versions: dict[str, str]


def write_results(directory: Path, comparison: Comparison, summary: dict[str, Any], report: str | None = None) -> None:
    """Write all files; each appears whole or not at all. The directory is made if it is missing.

    Raises: OSError when the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    header = "".join(f"# {line}\n" for line in comparison.command.splitlines())
    config = yaml.safe_dump(json_clean(comparison.config), sort_keys=False, allow_unicode=True)
    modes = [run.mode for run in comparison.runs]
    _write_table(directory / "requests.parquet", TurnRecord, modes, [run.turns for run in comparison.runs])
    _write_table(directory / "nic_samples.parquet", NicSample, modes, [run.samples for run in comparison.runs])
    _write_text(directory / "config.yaml", header + config)
    decisions = [json.dumps(json_clean(record)) for run in comparison.runs for record in run.decisions]
    _write_text(directory / "decisions.jsonl", "".join(f"{line}\n" for line in decisions))
    _write_text(directory / "versions.json", _json(comparison.versions))
    if report is not None:
        _write_text(directory / "report.html", report)
    _write_text(directory / "summary.json", _json(summary))


def load_results(directory: Path) -> Results:
    """Read the files back.

    Raises: ConfigError naming the file that is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    directory = Path(directory)
    for name in _FILES:
        if not (directory / name).is_file():
            raise ConfigError(f"{directory / name} is missing; give the directory of `dualpath rollout --out`")
    try:
        return Results(
            summary=json.loads((directory / "summary.json").read_text("utf-8")),
            requests=parquet.read_table(directory / "requests.parquet"),
            nic_samples=parquet.read_table(directory / "nic_samples.parquet"),
            config=yaml.safe_load((directory / "config.yaml").read_text("utf-8")) or {},
            versions=json.loads((directory / "versions.json").read_text("utf-8")),
        )
    except (ValueError, yaml.YAMLError, pa.ArrowException) as error:
        raise ConfigError(f"{directory} holds a damaged result file ({error}); run the comparison again") from error


def table_schema(record: type) -> Any:
    """Arrow schema of the table of a record type.

    ``run`` (int64, place in the summary's ``runs``), ``mode`` (string), then the record's fields by name and in order:
    text as string, counts and bytes as int64, times as float64 seconds. ``TurnRecord`` and ``NicSample`` say what each
    field means.
    """
    import pyarrow as pa

    columns = [pa.field("run", pa.int64(), nullable=False), pa.field("mode", pa.string(), nullable=False)]
    for field in fields(record):
        columns.append(pa.field(field.name, pa.type_for_alias(_ARROW_TYPES[field.type]), nullable=False))
    return pa.schema(columns)


def _write_table(path: Path, record: type, modes: Sequence[str], runs: Sequence[Sequence[Any]]) -> None:
    """Args: runs: the records of each run."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    schema = table_schema(record)
    with _replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for index, (mode, rows) in enumerate(zip(modes, runs, strict=True)):
            known: dict[str, Any] = {"run": [index] * len(rows), "mode": [mode] * len(rows)}
            arrays = [
                pa.array(known[field.name] if field.name in known else _values_of(rows, record, field.name), field.type)
                for field in schema
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _values_of(rows: Sequence[Any], record: type, name: str) -> Any:
    """One field of every record."""
    if not isinstance(rows, TurnColumns):
        return [getattr(row, name) for row in rows]
    return rows.text(name) if record.__annotations__[name] is str else rows.column(name)


def _json(value: Any) -> str:
    return json.dumps(json_clean(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _write_text(path: Path, text: str) -> None:
    with _replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path beside the final one, moved onto it at the end, or removed when writing fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
