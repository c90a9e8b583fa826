"""Errors cross processes whole."""

import inspect
import pickle

import pytest

from dualpath_ray.base import errors

KINDS = [k for k in vars(errors).values() if inspect.isclass(k) and issubclass(k, errors.DualPathError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_unpickles_with_its_message(kind):
    two = kind in (errors.BlockNotFoundError, errors.CorruptBlockError)
    error = kind("one", "two") if two else kind("one")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and again.args == error.args
    assert "one" in str(error) and (not two or "two" in str(error))
