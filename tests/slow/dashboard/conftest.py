"""One head for all tests of this folder: what the dashboard shows needs a minute to come together."""

import shutil
from collections.abc import Iterator

import pytest

from tests.slow.dashboard import head


@pytest.fixture(scope="package")
def live() -> Iterator[head.Live]:
    if not all(map(shutil.which, head.TOOLS)):
        pytest.skip(f"needs {' and '.join(head.TOOLS)}")
    with head.live() as made:
        yield made
