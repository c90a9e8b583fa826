"""Hypothesis explores anew at every run on a developer's machine; where ``CI`` is set it repeats the same cases."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
