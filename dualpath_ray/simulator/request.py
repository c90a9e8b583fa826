"""One turn on its way through the simulated cluster."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.state import Request

if TYPE_CHECKING:
    from dualpath_ray.simulator.decode import DecodeEngine
    from dualpath_ray.simulator.prefill import PrefillEngine


@dataclass(slots=True, eq=False)
class SimRequest:
    """What is known of a turn; times are simulated seconds. What has no value yet is set when it is known."""

    request: Request
    agent: int
    turn: int
    append_tokens: int
    gen_tokens: int
    submit_s: float
    written_s: float  # until then blocks of its trajectory are being written
    path: ReadPath = ReadPath.PE
    reason: str = ""
    num_chunks: int = 0
    cnic_in_bytes: int = 0
    cnic_out_bytes: int = 0
    pushed_s: float = 0.0  # the KV that has left the prefill engine is in the DE buffer
    second_token_s: float = 0.0
    done_tokens: int = field(init=False)  # of the prompt: loaded or computed
    prefill: "PrefillEngine" = field(init=False)
    decode: "DecodeEngine" = field(init=False)
    hit_blocks: int = field(init=False)
    prompt_blocks: int = field(init=False)
    assigned_s: float = field(init=False)
    read_start_s: float = field(init=False)
    ready_s: float = field(init=False)
    prefill_start_s: float = field(init=False)
    first_token_s: float = field(init=False)
    complete_s: float = field(init=False)
    loaded_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.done_tokens = self.request.hit_tokens
