"""Answers of actors, and what their failures come to: one sentence of our own tree."""

from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError, DualPathError, SystemDiedError

ANSWER_S = 20.0  # an actor that does not answer for so long hangs


def wait_for(refs: list[Any], who: str, timeout_s: float) -> list[Any]:
    """Results of start-up calls.

    Raises: the actor's own error (ConfigError and others of our tree); SystemDiedError when it died or hangs.
    """
    try:
        results: list[Any] = ray.get(refs, timeout=timeout_s)
        return results
    except ray.exceptions.GetTimeoutError as error:
        raise ConfigError(
            f"startup_timeout_s: {who} was not ready within {timeout_s:g} s; the cluster may lack free resources"
        ) from error
    except ray.exceptions.RayActorError as error:
        raise own_error(error) or SystemDiedError(f"{who} died while starting: {first_line(error)}") from error
    except ray.exceptions.RayTaskError as error:
        raise own_error(error) or SystemDiedError(f"{who} failed while starting: {first_line(error)}") from error


def ask(refs: Any, who: str) -> Any:
    """Results of calls to running actors.

    Raises: SystemDiedError naming ``who`` when it is gone or does not answer; the actor's own error of our tree.
    """
    try:
        return ray.get(refs, timeout=ANSWER_S)
    except ray.exceptions.GetTimeoutError as error:
        raise SystemDiedError(f"{who} does not answer within {ANSWER_S:g} s") from error
    except ray.exceptions.RayError as error:
        raise own_error(error) or SystemDiedError(f"{who} is gone: {first_line(error)}") from error


def ask_each(asked: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(answers, reasons for none), both by who was asked, whatever became of the others."""
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    told, silent = {}, {}
    for who, ref in asked.items():
        if not ray.wait([ref], timeout=0)[0]:
            silent[who] = f"{who} does not answer within {ANSWER_S:g} s"
            continue
        try:
            told[who] = ask(ref, who)
        except DualPathError as error:
            silent[who] = str(error)
    return told, silent


def own_error(error: BaseException) -> DualPathError | None:
    """The error of our own tree that an actor raised, if it is one."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, DualPathError):
        return cause
    if isinstance(error, DualPathError):
        return error
    text = str(error)  # an actor whose constructor raised: Ray keeps only the text
    for kind in (ConfigError,):
        marker = f"{kind.__module__}.{kind.__name__}: "
        if marker in text:
            return kind(text.rpartition(marker)[2].strip().splitlines()[0])
    return None


def first_line(error: BaseException) -> str:
    """What a Ray error comes to: its innermost message; of a dead process, that it is dead."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "Ray has ended its process for want of memory"
    if isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed:
        return "its process has died"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
