"""The masks by their statistics and by hand, forward against backward."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from modeling_electra_rtd.model.cpu_dropout import dropout, hashed_counter


def compiled(function):
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")


FORMS = {"uncompiled": lambda function: function, "compiled": compiled}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_share_scale_and_gradient(form, dtype, probability):
    torch.manual_seed(0)
    values = torch.ones(300, 1000, dtype=dtype, requires_grad=True)
    output = FORMS[form](lambda x: dropout(x, probability, True))(values)
    output.sum().backward()
    assert output.dtype == dtype
    kept = output != 0
    # Four standard deviations of a share over 300,000 draws.
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=4 * (0.25 / 300_000) ** 0.5)
    assert output[kept].float().unique().tolist() == pytest.approx([1 / (1 - probability)], rel=1e-2)
    torch.testing.assert_close(values.grad, output.detach())


@pytest.mark.parametrize("form", FORMS)
def test_masks_differ_between_calls_and_come_from_the_seed(form):
    def twice(x):
        return dropout(x, 0.5, True), dropout(x, 0.5, True)

    function, values = FORMS[form](twice), torch.ones(64, 64)
    torch.manual_seed(1)
    first, second = function(values)
    third, _ = function(values)
    torch.manual_seed(1)
    again, _ = function(values)
    assert torch.equal(first, again)
    for one, other in ((first, second), (first, third), (second, third)):
        # Independent masks agree in half of their elements.
        assert ((one != 0) == (other != 0)).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_hash_is_that_of_the_unsigned_arithmetic():
    keys = torch.tensor([-123456789, 987654321], dtype=torch.int32)
    found = hashed_counter(torch.Size([5, 7]), keys).flatten().tolist()
    for number, value in enumerate(found):
        bits = (number - 123456789) % 2**32
        bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) % 2**32
        bits = (((bits ^ (bits >> 13)) ^ 987654321) * 0xC2B2AE35) % 2**32
        assert value % 2**32 == bits ^ (bits >> 16)


def test_hash_has_no_pattern_over_neighbours_and_bits():
    bits = hashed_counter(torch.Size([1 << 16]), torch.tensor([3, 5], dtype=torch.int32))
    ones = torch.stack([(bits >> shift) & 1 for shift in range(32)]).float()
    assert (ones.mean(dim=1) - 0.5).abs().max() < 0.01
    centred = ones - 0.5
    for lag in (1, 2, 64, 128, 256):
        assert (4 * (centred[:, lag:] * centred[:, :-lag]).mean(dim=1)).abs().max() < 0.02


def test_without_training_or_probability_nothing_happens():
    values = torch.randn(3, 4)
    assert torch.equal(dropout(values, 0.5, False), values)
    assert torch.equal(dropout(values, 0.0, True), values)
    assert not dropout(values, 1.0, True).any()


@pytest.mark.parametrize("form", FORMS)
def test_recomputed_activations_are_dropped_alike(form):
    def layer(x):
        return dropout(torch.sin(x @ x.T), 0.5, True) @ x

    def checkpointed(x):
        return checkpoint(layer, x, use_reentrant=False)

    torch.compiler.reset()
    values = torch.randn(32, 32)
    gradients = []
    for function in (layer, checkpointed):
        if form == "compiled":
            function = torch.compile(function, backend="aot_eager_decomp_partition")
        leaf = values.clone().requires_grad_()
        torch.manual_seed(0)
        function(leaf).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
