"""Engines that exchange model-execution traffic over NCCL, each with a GPU of its own."""

import pytest
import torch

from tests.unit.engine.expert_members import members_of, stop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices"),
]


def test_bursts_go_through_over_nccl_and_one_without_tokens_takes_part():
    members = members_of(("d0", "d1"), "cuda")
    try:
        members[0].ask("exchange", 1000, 64 << 20, 0)
        assert members[0].answer() == "through"
        for member in members:
            member.ask("exchange", *[100_000] * 20)
        assert [member.answer() for member in members] == ["through"] * 2
        for member in members:
            member.ask("posted")
        each = 1000 + (64 << 20) + 2 * 20 * 100_000
        assert [sum(member.answer()) for member in members] == [each, each], "what one sends, the other gives back"
    finally:
        stop(members)
