"""One Ray for all tests of this folder: each test starts systems of its own on it."""

from collections.abc import Iterator

import pytest

from dualpath_ray.cluster.placement import RaySession
from dualpath_ray.engine.device import num_cuda_devices


@pytest.fixture(scope="session", autouse=True)
def ray_session() -> Iterator[None]:
    session = RaySession()
    session.open(None, 4, num_cuda_devices() > 0)
    yield
    session.close()
