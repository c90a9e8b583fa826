"""What an engine is given of a request, and what it says back. Plain data: it crosses processes as msgpack or by Ray."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dualpath_ray.base.types import ReadPath
from dualpath_ray.engine.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """The engine port's submit: a prompt, a KV source (read path, keys, node) and a KV sink (decode engine)."""

    request_id: str
    attempt: int
    seq: int  # number of the scheduler's decision
    client_id: str
    trajectory_id: str
    token_ids: np.ndarray  # int32 [prompt_tokens]
    keys: tuple[bytes, ...]  # of every whole block of the prompt
    hit_blocks: int
    being_written: tuple[bool, ...]  # per hit block
    salt: bytes  # of the keys: blocks that fill while it decodes continue their chain
    weights_version: int
    params: SamplingParams
    read_path: ReadPath
    prefill_node: str
    prefill_engine: int
    decode_node: str
    decode_engine: int
    deadline_s: float | None = None  # by when its first token is wanted, wall-clock seconds

    def urgent_at_s(self, before_s: float) -> float | None:
        """When its KV becomes urgent, by this host's monotonic clock. Args: before_s: its deadline."""
        if self.deadline_s is None:
            return None
        return time.monotonic() + self.deadline_s - before_s - time.time()

    @property
    def prompt_tokens(self) -> int:
        return len(self.token_ids)

    def pack(self) -> dict[str, Any]:
        """As a mapping that msgpack takes."""
        data = {name: getattr(self, name) for name in self.__slots__}
        data["token_ids"] = np.asarray(self.token_ids, "<i4").tobytes()
        data["params"] = asdict(self.params)
        return data

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> "EngineRequest":
        params = {**data["params"], "stop_token_ids": tuple(data["params"]["stop_token_ids"])}
        return cls(
            **{
                **data,
                "token_ids": np.frombuffer(data["token_ids"], "<i4"),
                "keys": tuple(data["keys"]),
                "being_written": tuple(data["being_written"]),
                "params": SamplingParams(**params),
                "read_path": ReadPath(data["read_path"]),
            }
        )


@dataclass(frozen=True, slots=True)
class StepEvent:
    """Something happened to a request: tokens came out, it ended, or it failed. Times are wall-clock seconds."""

    request_id: str
    attempt: int
    sample: int
    first_index: int  # of ``tokens`` among the generated ones
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    time_s: float = 0.0
    finished: bool = False
    reason: str = ""  # length, stop or cancelled, when finished
    facts: dict[str, Any] = field(default_factory=dict)
