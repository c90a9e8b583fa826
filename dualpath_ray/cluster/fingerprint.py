"""What two processes must have in common to use one system: code and configuration."""

import hashlib
from functools import cache
from pathlib import Path

import dualpath_ray
from dualpath_ray.config.cluster import ClusterConfig


def fingerprint(config: ClusterConfig) -> str:
    """Digest of this process' code and of a configuration."""
    return hashlib.sha256(f"{code_fingerprint()} {config.model_dump_json()}".encode()).hexdigest()[:12]


@cache
def code_fingerprint() -> str:
    """Digest of every module of the package, wherever it is installed."""
    package = Path(dualpath_ray.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)} ".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
