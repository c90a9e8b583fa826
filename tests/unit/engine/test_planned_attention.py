"""FlashInfer's attention where there is no GPU: it can be named, and is left alone."""

import pytest
import torch

from dualpath_ray.engine.planned_attention import faster_than_torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu has the cases with a GPU")
def test_without_flashinfer_or_a_gpu_torchs_kernel_stays():
    assert faster_than_torch(28, 4, 128, 128, False) is None
    assert faster_than_torch(28, 4, 24, 24, False) is None
