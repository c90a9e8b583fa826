"""From rollout options to trajectories that fit a model."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.plan import SystemPlan, naming
from dualpath_ray.engine.describe import ModelDescription
from dualpath_ray.engine.toy import is_toy
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.workload.load import load_workload
from dualpath_ray.workload.trajectory import Trajectory

DEFAULT_TRAJECTORIES = 8
DEFAULT_GEN_TOKENS = 4
DEFAULT_TOTAL_TOKENS = 640  # of a trajectory: a 32K agent context scaled down about 45 times, as is the storage NIC
_FIRST_TEXT_TOKEN = 16


def encoder(description: ModelDescription) -> Callable[[str], list[int]]:
    """Text to token ids without special tokens; toy models, which have no tokenizer, take bytes.

    Raises: ConfigError when the model's tokenizer cannot be read.
    """
    if is_toy(description.model):
        return lambda text: [_FIRST_TEXT_TOKEN + byte for byte in text.encode()]
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            Path(description.model) if Path(description.model).is_dir() else description.model
        )
    except Exception as error:  # transformers raises many kinds for one cause: there is no usable tokenizer
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"model: {description.model} has no tokenizer that can be read ({reason})") from error
    # a long text is cut into a trajectory later: its length is no mistake here
    tokenizer.model_max_length = 2**40

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    return encode


def make_workload(options: RolloutOptions, plan: SystemPlan) -> list[Trajectory]:
    """The trajectories that the options name, for the model of a plan.

    Raises: ConfigError as ``load_workload``, and when there is text to encode and no tokenizer.
    """

    @cache
    def tokenizer() -> Callable[[str], list[int]]:  # made when it is needed: most traces hold lengths only
        with naming(plan.source):
            return encoder(plan.description)

    return load_workload(
        options.trace,
        num_trajectories=options.num_trajectories or DEFAULT_TRAJECTORIES,
        max_turns=options.max_turns,
        token_scale=options.token_scale,
        max_gen=options.max_gen,
        gen_tokens=options.gen_tokens or (DEFAULT_GEN_TOKENS if options.trace == "code-reading" else None),
        max_context_tokens=plan.max_context_tokens,
        seed=plan.config.seed,
        encode=lambda text: tokenizer()(text),
        vocab_size=plan.description.vocab_size,
        total_tokens=options.total_tokens or DEFAULT_TOTAL_TOKENS,
        tool_delays=options.tool_delays,
    )
