"""``dualpath profile``: alpha, beta and the quota's predictor, measured on the engine at hand."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from dualpath_ray.cluster.plan import make_plan
from dualpath_ray.config.load import load_cluster
from dualpath_ray.engine.profile import EngineProfile, profile_engine

_REPEATS = 9


def profile_config(path: Path, echo: Callable[[str], None], say: Callable[[str], None]) -> dict[str, Any]:
    """Profile one engine with the threads it will have.

    Args:   echo: gets what to put into the configuration, valid YAML and nothing else; say: gets the explanation.
    Raises: ConfigError naming file and key.
    """
    config = load_cluster(path)
    plan = make_plan(config, str(path), 2048)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch

    torch.set_num_threads(plan.threads_per_engine)
    from dualpath_ray.engine.model import ModelAdapter

    say(f"profiling {config.model} on {plan.threads_per_engine} thread(s)")
    adapter = ModelAdapter(plan.description, config.engine.dtype, config.seed)
    profile = profile_engine(adapter, plan.max_context_tokens, _REPEATS)
    _explain(profile, plan.fetch_limits(profile.beta_tokens()).short_read_queue_tokens, say)
    echo(yaml.safe_dump({"profile": profile.to_dict()}, sort_keys=False).rstrip())
    return profile.to_dict()


def _explain(profile: EngineProfile, alpha_tokens: int, say: Callable[[str], None]) -> None:
    alpha = f"{alpha_tokens} tokens" if alpha_tokens < 2**40 else "no limit (node.snic_bps is not set)"
    say(f"alpha: {alpha}, what a node's storage NIC reads in 3 s")
    say(f"beta: {profile.beta_tokens()} tokens, what the engine prefills in 5 s at nine cached tokens for a new one")
    say(f"attention: {profile.overhead_s * 1e6:.0f} us a request and layer + {profile.s_per_flop * 1e12:.2f} ps a FLOP")
    say(f"prefill: {profile.new_tokens_per_s:.0f} new tokens/s; put this into the configuration file:")
