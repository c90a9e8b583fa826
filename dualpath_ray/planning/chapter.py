"""A table or figure of the reproduction: its rows, its experiments and the command that made them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dualpath_ray.planning.experiments import Experiment
from dualpath_ray.planning.rows import Row


@dataclass(slots=True)
class Chapter:
    """What the report says of one figure."""

    command: str
    rows: list[Row] = field(default_factory=list)
    experiments: list[Experiment] = field(default_factory=list)


def to_json(chapters: Mapping[str, Chapter]) -> dict[str, Any]:
    """As ``results.json`` holds them."""
    return {
        "commands": {name: chapter.command for name, chapter in chapters.items()},
        "rows": [row.to_json() for chapter in chapters.values() for row in chapter.rows],
        "experiments": [each.to_json() for chapter in chapters.values() for each in chapter.experiments],
    }


def from_json(data: dict[str, Any]) -> dict[str, Chapter]:
    """The inverse of ``to_json``. Raises: KeyError, TypeError when it is something else."""
    chapters = {name: Chapter(command) for name, command in data["commands"].items()}
    for row in data["rows"]:
        chapters[row["figure"]].rows.append(Row(**{key: row[key] for key in Row.__slots__}))
    for each in data["experiments"]:
        chapters[each["figure"]].experiments.append(Experiment.from_json(each))
    return chapters
