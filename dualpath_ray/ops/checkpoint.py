"""What an unfinished rollout has done so far, kept with its results, so that another process can go on from there."""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.rollout import Earlier, FinishedTurn
from dualpath_ray.observability.run_record import NicSample, RunRecord, TurnRecord
from dualpath_ray.observability.summary import json_clean
from dualpath_ray.ops.results_place import ResultsPlace
from dualpath_ray.workload.trajectory import Trajectory

FOLDER = "progress"
_HEADER = f"{FOLDER}/workload.json"
_KEPT = re.compile(r"\d{4,}-\d{6,}\.jsonl|run\.json")
_SAVE_S = 2.0  # a killed rollout computes no more than this again, and what was under way


@dataclass(frozen=True, slots=True)
class Workload:
    """What makes two rollouts the same: their progress fits only then."""

    digest: str  # of every token that is appended, every length, and the configuration
    modes: tuple[str, ...]


def workload_of(trajectories: Sequence[Trajectory], config: dict[str, Any], modes: Sequence[str]) -> Workload:
    """Args: config: the effective configuration, as JSON types."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for trajectory in trajectories:
        digest.update(trajectory.trajectory_id.encode())
        for turn in trajectory.turns:
            digest.update(np.array([len(turn.append_ids), turn.gen_tokens], "<i8").tobytes())
            digest.update(np.ascontiguousarray(turn.append_ids, "<i4").tobytes())
    return Workload(digest.hexdigest()[:16], tuple(modes))


class Checkpoint:
    """Of all runs of one rollout."""

    def __init__(self, place: ResultsPlace, workload: Workload, resume: bool) -> None:
        """Args: resume: go on from what is there; else it is forgotten.

        Raises: ConfigError naming ``--resume`` when what is there is of another workload.
        """
        self._place, self._files = place, place.load(FOLDER) if resume else {}
        if not resume:
            place.remove(FOLDER)
        elif _HEADER not in self._files:  # nothing, or what is left of a folder that was being removed
            place.remove(FOLDER)
            self._files = {}
        else:
            there = Workload(**{**(found := json.loads(self._files[_HEADER])), "modes": tuple(found["modes"])})
            if there != workload:
                raise ConfigError(
                    f"--resume: {place.where(FOLDER)} is of another workload, configuration or --compare; name another --out, "
                    "or leave out --resume to begin anew"
                )
        if not self._files:
            place.save(_HEADER, json.dumps(asdict(workload)))

    def run(self, mode: str) -> "RunCheckpoint":
        """Of one run."""
        folder = f"{FOLDER}/{mode.replace(':', '-').replace('/', '-')}/"
        files = {name.removeprefix(folder): text for name, text in self._files.items() if name.startswith(folder)}
        files = {name: text for name, text in files.items() if _KEPT.fullmatch(name)}
        return RunCheckpoint(self._place, folder, files)

    def done(self) -> None:
        """The rollout is complete."""
        self._place.remove(FOLDER)


class RunCheckpoint:
    """Turns of one run, a file every few seconds; and its record, once it is complete."""

    def __init__(self, place: ResultsPlace, folder: str, files: dict[str, str]) -> None:
        self._place, self._folder = place, folder
        self._record = files.pop("run.json", None)
        self._earlier = _earlier(files)
        self._part = self._earlier.num_parts + 1
        self._saved = 0
        self._unsaved: list[FinishedTurn] = []
        self._saved_s = time.monotonic()

    @property
    def record(self) -> RunRecord | None:
        """Of a run that is complete."""
        return None if self._record is None else record_from_json(json.loads(self._record))

    @property
    def earlier(self) -> Earlier:
        """What there is to go on from."""
        return self._earlier

    def add(self, turns: list[FinishedTurn]) -> None:
        """Keep these turns, too."""
        self._unsaved += turns
        if time.monotonic() - self._saved_s >= _SAVE_S:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet. Raises: ConfigError naming ``--out``."""
        if self._unsaved:
            lines = "".join(json.dumps(_to_json(turn)) + "\n" for turn in self._unsaved)
            self._place.save(f"{self._folder}{self._part:04d}-{self._saved:06d}.jsonl", lines)
            self._saved, self._unsaved = self._saved + 1, []
        self._saved_s = time.monotonic()

    def complete(self, record: RunRecord) -> None:
        """The run is over."""
        self._place.save(f"{self._folder}run.json", json.dumps(json_clean(asdict(record))))


def _earlier(files: dict[str, str]) -> Earlier:
    """Args: files: ``part-number.jsonl`` of turns."""
    parts: dict[str, list[FinishedTurn]] = defaultdict(list)
    for name, text in files.items():
        parts[name.partition("-")[0]] += [_from_json(json.loads(line)) for line in text.splitlines()]
    took = sum(max(t.last_token_s for t in part) - min(t.record.submit_s for t in part) for part in parts.values())
    numbers = [int(part) for part in parts]
    return Earlier(tuple(turn for part in parts.values() for turn in part), max(numbers, default=0), took)


def _to_json(turn: FinishedTurn) -> dict[str, Any]:
    return {"record": asdict(turn.record), "token_ids": turn.token_ids, "last_token_s": turn.last_token_s}


def _from_json(data: dict[str, Any]) -> FinishedTurn:
    return FinishedTurn(TurnRecord(**data["record"]), data["token_ids"], data["last_token_s"])


def record_from_json(data: dict[str, Any]) -> RunRecord:
    """What ``RunCheckpoint.complete`` wrote."""
    pairs = {name: [tuple(span) for span in spans] for name, spans in data["generated_spans"].items()}
    reads = {node: [tuple(span) for span in spans] for node, spans in data["read_spans"].items()}
    return RunRecord(
        **{
            **data,
            "turns": [TurnRecord(**turn) for turn in data["turns"]],
            "samples": [NicSample(**sample) for sample in data["samples"]],
            "generated_spans": pairs,
            "read_spans": reads,
        }
    )
