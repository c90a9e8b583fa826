"""Hypothesis explores anew at every run on a developer's machine; where ``CI`` is set it repeats the same cases."""

import gc
import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_collection_finish() -> None:
    """Collecting has imported torch, transformers and Ray: half a million objects that no collector need look at."""
    gc.collect()
    gc.freeze()
