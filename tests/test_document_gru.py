"""The recurrence by hand, against the GRU of torch, and without a trace of what stands beyond a border."""

import math

import pytest
import torch
from torch import nn

from modeling_electra_rtd.model.document_gru import DocumentGru, document_borders


def gru_of(bidirectional: bool, input_size: int = 3, hidden_size: int = 4) -> DocumentGru:
    torch.manual_seed(0)
    return DocumentGru(input_size, hidden_size, batch_first=True, bidirectional=bidirectional)


def borders_of(documents: list[list[int]], bidirectional: bool) -> torch.Tensor:
    mask = torch.tensor(documents)
    return document_borders(mask, *mask.shape, mask.device)[..., : 1 + bidirectional]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_two_documents_by_hand():
    gru = DocumentGru(1, 1, batch_first=True, bidirectional=True)
    # Rows are r, z, n; each direction has numbers of its own.
    numbers = {
        "": {"weight_ih": (0.5, -1.0, 2.0), "weight_hh": (1.5, 0.25, -0.5), "bias_ih": (0.1, 0.2, 0.3)},
        "_reverse": {"weight_ih": (-0.5, 0.75, 1.0), "weight_hh": (0.5, -2.0, 1.25), "bias_ih": (-0.1, 0.4, 0.2)},
    }
    hidden_bias = (0.05, -0.15, 0.25)
    with torch.no_grad():
        for direction, values in numbers.items():
            for name, row in values.items():
                parameter = getattr(gru, f"{name}_l0{direction}")
                parameter.copy_(torch.tensor(row).view_as(parameter))
            getattr(gru, f"bias_hh_l0{direction}").copy_(torch.tensor(hidden_bias))
    texts = [[1.0, -2.0, 0.5], [3.0, -1.0]]

    def states(text: list[float], direction: str) -> list[float]:
        (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n) = numbers[direction].values()
        c_r, c_z, c_n = hidden_bias
        found = [math.tanh(w_n * text[0] + b_n)]
        for x in text[1:]:
            h = found[-1]
            r = sigmoid(w_r * x + b_r + u_r * h + c_r)
            z = sigmoid(w_z * x + b_z + u_z * h + c_z)
            n = math.tanh(w_n * x + b_n + r * (u_n * h + c_n))
            found.append((1 - z) * n + z * h)
        return found

    expected = [
        [left, right]
        for text in texts
        for left, right in zip(states(text, ""), states(text[::-1], "_reverse")[::-1], strict=True)
    ]
    inputs = torch.tensor([x for text in texts for x in text])[None, :, None]
    found = gru(inputs, borders_of([[1, 1, 1, 2, 2]], bidirectional=True))
    torch.testing.assert_close(found[0], torch.tensor(expected), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_between_borders_it_is_the_gru_of_torch(bidirectional):
    gru = gru_of(bidirectional)
    inputs = torch.randn(2, 7, 3)
    none = torch.zeros(2, 7, 1 + bidirectional, dtype=torch.bool)
    stock = nn.GRU(3, 4, batch_first=True, bidirectional=bidirectional)
    assert gru.state_dict().keys() == stock.state_dict().keys()
    stock.load_state_dict(gru.state_dict())
    torch.testing.assert_close(gru(inputs, none), stock(inputs)[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_of_another_document_is_left(bidirectional, dtype):
    gru = gru_of(bidirectional)
    borders = borders_of([[1, 1, 1, 2, 2, 2, 2, 0]], bidirectional)
    inputs = torch.randn(1, 8, 3, requires_grad=True)
    other = inputs.detach().clone()
    other[:, :3] = 100 * torch.randn(3, 3)
    other[:, 7] = -50.0
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        found, changed = gru(inputs, borders), gru(other, borders)
    second = slice(3, 7)
    assert torch.equal(found[:, second], changed[:, second])
    assert not torch.equal(found[:, :3], changed[:, :3])
    gradient = torch.autograd.grad(found[:, second].float().square().sum(), inputs)[0][0]
    assert (gradient != 0).any(dim=1).tolist() == [False] * 3 + [True] * 4 + [False]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_packed_document_is_as_it_is_alone(bidirectional):
    gru = gru_of(bidirectional)
    inputs = torch.randn(1, 8, 3)
    packed = gru(inputs, borders_of([[1, 1, 1, 2, 2, 2, 2, 0]], bidirectional))
    for document in (slice(0, 3), slice(3, 7)):
        alone = gru(inputs[:, document], borders_of([[1] * (document.stop - document.start)], bidirectional))
        torch.testing.assert_close(packed[:, document], alone, atol=1e-6, rtol=1e-6)


def test_borders_by_hand():
    documents = torch.tensor([[1, 1, 2, 0, 0], [1, 1, 1, 1, 1]])
    begins = torch.tensor([[1, 0, 1, 1, 0], [1, 0, 0, 0, 0]]).bool()
    ends = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 1]]).bool()
    for mask in (documents, documents.float()):
        found = document_borders(mask, 2, 5, documents.device)
        assert torch.equal(found, torch.stack([begins, ends], dim=-1))
    with pytest.raises(ValueError, match=r"4 dimensions; a GRU reads \(batch, sequence\)"):
        document_borders(torch.ones(2, 1, 5, 5), 2, 5, documents.device)
    whole = document_borders(None, 1, 3, documents.device)
    assert whole.long().tolist() == [[[1, 0], [0, 0], [0, 1]]]
