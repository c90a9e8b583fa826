"""Which side's storage NIC reads a request's hit blocks: the path policies (section 6, read side)."""

from collections.abc import Callable
from typing import NamedTuple

from dualpath_ray.base.plugin import load_callable
from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.state import NodeLoad, Request


class ReadSideInputs(NamedTuple):
    """All that a policy may look at. The queues and bytes include what was assigned since the nodes' reports."""

    request: Request
    prefill: NodeLoad
    decode: NodeLoad
    turn: int  # decisions about a hit so far, for round robin


ReadPathPolicy = Callable[[ReadSideInputs], tuple[ReadPath, str]]


def prefill_only(inputs: ReadSideInputs) -> tuple[ReadPath, str]:
    """The single path of existing systems: the prefill side reads (section 3)."""
    return ReadPath.PE, "prefill_only" if inputs.request.hit_tokens else "no hit"


def round_robin(inputs: ReadSideInputs) -> tuple[ReadPath, str]:
    """The sides in turn, whatever their load: the ablation of section 7."""
    forced = _forced(inputs)
    if forced is not None:
        return forced
    return (ReadPath.DE if inputs.turn % 2 else ReadPath.PE), f"turn {inputs.turn}"


def scheduled(inputs: ReadSideInputs) -> tuple[ReadPath, str]:
    """The side with the shorter read queue; ties go to the side that has read fewer bytes, then to the PE."""
    forced = _forced(inputs)
    if forced is not None:
        return forced
    prefill, decode = inputs.prefill, inputs.decode
    if prefill.read_queue_tokens != decode.read_queue_tokens:
        path = ReadPath.PE if prefill.read_queue_tokens < decode.read_queue_tokens else ReadPath.DE
        return path, f"read queue PE {prefill.read_queue_tokens}, DE {decode.read_queue_tokens} tokens"
    path = ReadPath.DE if decode.read_bytes < prefill.read_bytes else ReadPath.PE
    return path, f"equal queues; read so far PE {prefill.read_bytes}, DE {decode.read_bytes} bytes"


def _forced(inputs: ReadSideInputs) -> tuple[ReadPath, str] | None:
    """The answer where there is nothing to choose."""
    if inputs.request.hit_tokens == 0:
        return ReadPath.PE, "no hit"
    if not inputs.prefill.can_read:
        if not inputs.decode.can_read:
            return ReadPath.PE, "neither side can read"  # the load fails there, and the engine computes the tokens
        return ReadPath.DE, "PE cannot read"
    if not inputs.decode.can_read:
        return ReadPath.PE, "DE cannot read"
    return None


_POLICIES: dict[str, ReadPathPolicy] = {
    "prefill_only": prefill_only,
    "round_robin": round_robin,
    "scheduled": scheduled,
}


def load_policy(name: str) -> ReadPathPolicy:
    """The policy of a name: ``prefill_only``, ``round_robin``, ``scheduled`` or ``module:attr``.

    Raises: ConfigError naming the key ``scheduler.read_path`` when there is none.
    """
    if name in _POLICIES:
        return _POLICIES[name]
    return load_callable(name, "scheduler.read_path", "policy", list(_POLICIES), "ReadSideInputs")


def policy_name(policy: ReadPathPolicy) -> str:
    """The name under which ``load_policy`` finds a policy again."""
    for name, known in _POLICIES.items():
        if known is policy:
            return name
    return f"{getattr(policy, '__module__', '')}:{getattr(policy, '__qualname__', type(policy).__qualname__)}"
