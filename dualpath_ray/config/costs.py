"""What computation costs, for `simulate` and `plan`: shares of a data sheet's peaks, or seconds fitted to a live run.

Packaged files hold shares for a kind of hardware; ``dualpath calibrate`` writes a file of seconds.
"""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.yaml_file import keys_are, problems, read_mapping
from dualpath_ray.config.section import Section

_FILES = Path(__file__).parent / "cost_files"
Ratio = Annotated[float, Field(gt=0, le=1)]
Costs = TypeVar("Costs", bound=Section)


class Efficiency(Section):
    """How far an engine gets of its hardware's peaks."""

    prefill_flops_ratio: Ratio = Field(description="Of the peak FLOPs: projections and FFN of prefill.")
    attention_flops_ratio: Ratio = Field(description="Of the peak FLOPs: attention of prefill, the indexer included.")
    prefill_layer_s: NonNegativeFloat = Field(
        description="Seconds of each layer of a forward batch, whatever is in it."
    )
    hbm_ratio: Ratio = Field(description="Of the peak HBM bandwidth: reading weights and KV in decode.")
    decode_layer_s: NonNegativeFloat = Field(description="Seconds of a layer of a decode step, whatever is in it.")
    decode_flops_ratio: Ratio = Field(description="Of the peak FLOPs: what a sequence adds to a decode step.")
    hbm_usable_ratio: Ratio = Field(0.9, description="Of HBM: weights and KV; activations take the rest.")
    submit_s: NonNegativeFloat = Field(0.0, description="Seconds from submit to the waiting queue, lookup included.")
    hand_over_s: NonNegativeFloat = Field(0.0, description="Seconds from the last push to the decode engine.")


class FittedPrefill(Section):
    """Seconds of a forward batch."""

    batch_s: NonNegativeFloat = Field(description="Of a batch, whatever is in it.")
    request_s: NonNegativeFloat = Field(description="Of each request in it.")
    token_s: NonNegativeFloat = Field(description="Of each new token.")
    s_per_attention_flop: NonNegativeFloat = Field(description="Of each FLOP of attention.")


class FittedDecode(Section):
    """Seconds of a decode step."""

    step_s: NonNegativeFloat = Field(description="Of a step.")
    sequence_s: NonNegativeFloat = Field(description="Of each sequence in it.")
    context_s: NonNegativeFloat = Field(description="Of each token of their contexts.")


class FittedDelays(Section):
    """Seconds of messages and of work that is neither a NIC's nor an engine's; of a core where engines share cores."""

    submit_s: NonNegativeFloat = Field(description="From submit to the waiting queue, its hit looked up.")
    read_s: NonNegativeFloat = Field(0.0, description="From the last byte of a read to the prefill engine.")
    hand_over_s: NonNegativeFloat = Field(description="From the last push to the decode engine.")
    turn_s: NonNegativeFloat = Field(
        description="From a turn's last token to the submit of the next, without its tool."
    )


class FittedCosts(Section):
    """What ``dualpath calibrate`` writes."""

    model: str = Field(description="The model that was run.")
    fitted_to: str = Field(description="The run, in words.")
    cores: PositiveInt | None = Field(None, description="Cores that all engines share. Unset: each has its own GPU.")
    threads: PositiveInt = Field(1, description="Threads of an engine.")
    prompt_tokens_per_s: PositiveFloat = Field(description="What the profile of the engine says; beta is 5 s of it.")
    prefill: FittedPrefill
    decode: FittedDecode
    delays: FittedDelays
    read_bytes_per_s: PositiveFloat | None = Field(
        None, description="Storage reads of a node where no rate limits them."
    )


def efficiency_of(hardware: str, model: str) -> Efficiency:
    """The packaged shares of a kind of hardware for a model, or its ``default``.

    Raises: ConfigError when there are none.
    """
    path = _FILES / f"{hardware}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _FILES.glob("*.yaml")))
        raise ConfigError(
            f"hardware: nothing is known of how fast engines are on {hardware}, only on {known}; give a file of "
            "`dualpath calibrate` or of shares with --costs"
        )
    data = read_mapping(path, "", "default: {...}")
    values = {**data["default"], **data.get(model, {})}
    return _check(Efficiency, values, f"{path} {model}")


def load_costs(path: Path) -> Efficiency | FittedCosts:
    """A file of one's own, of either kind.

    Raises: ConfigError in one sentence that names the file and the key.
    """
    data = read_mapping(path, "name a file that `dualpath calibrate` wrote", "prefill_flops_ratio: 0.2")
    if "prefill" in data:
        return _check(FittedCosts, data, str(path))
    return _check(Efficiency, data, str(path))


def _check(kind: type[Costs], data: dict[str, object], source: str) -> Costs:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{source}: {problems(error, 'costs', keys_are(kind.model_fields))}") from error
