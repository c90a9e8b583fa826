"""One Ray for all tests of this folder."""

from tests.ray.conftest import ray_session as ray_session
