"""A GRU over rows of packed documents: it forgets where one ends, exactly, in one call of the library's kernel."""

import warnings

import torch
from torch import Tensor, nn


# What a gate sees where a document begins: its sigmoid is exactly 0 in every floating-point format.
_SHUT = -1e4

# The weights that cuDNN gets are made anew in every call; packing them costs little compared with the recurrence.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous", module=__name__)


class DocumentGru(nn.GRU):
    """A one-layer `nn.GRU` that forgets at the borders of documents.

    At the first token of a document, in the order of a direction, both gates are shut: with r = 0 and z = 0 the state
    becomes h = tanh(W_in x + b_in), in which nothing of the state before is left, not even a rounding error. Elsewhere
    it is the GRU of `torch`. So a document's states are the same whatever is packed next to it or padded behind it, in
    one call of the library's kernel for a whole batch. The gates are shut by one more input feature a direction, whose
    weights are constants that are no parameters.
    """

    def flatten_parameters(self) -> None:
        """Nothing: the kernel does not get the parameters themselves."""

    # A compiler would unroll the recurrence: a graph of some operators for every position.
    @torch.compiler.disable
    def forward(self, hidden_states: Tensor, borders: Tensor) -> Tensor:
        """
        Args:
            hidden_states: `(batch, sequence, input_size)`.
            borders: `(batch, sequence, directions)` bool, where a document begins for a direction.

        Returns:
            `(batch, sequence, directions * hidden_size)`, the states of the directions side by side.
        """
        weights = []
        for direction, (input_weight, *others) in enumerate(self.all_weights):
            # The rows are those of r, z and n.
            shutting = input_weight.new_zeros(3, self.hidden_size, len(self.all_weights))
            shutting[:2, :, direction] = _SHUT
            weights += [torch.cat([input_weight, shutting.flatten(0, 1)], dim=1), *others]
        dtype = self.weight_ih_l0.dtype
        inputs = torch.cat([hidden_states.to(dtype), borders.to(dtype)], dim=-1)
        initial = inputs.new_zeros(len(self.all_weights), len(inputs), self.hidden_size)
        return torch.gru(inputs, initial, weights, True, 1, 0.0, self.training, self.bidirectional, True)[0]


def document_borders(attention_mask: Tensor | None, batch: int, sequence: int, device: torch.device) -> Tensor:
    """`(batch, sequence, 2)` bool: where a document begins, and where it ends, which is where it begins backwards.

    Args:
        attention_mask: `(batch, sequence)`, equal within a document: 1 for tokens and 0 for padding, or numbers of
            packed documents; `None` for rows of one document.

    Raises:
        ValueError: for a mask of another shape, as attention has them.
    """
    if attention_mask is None:
        joined = torch.ones(batch, sequence - 1, dtype=torch.bool, device=device)
    elif attention_mask.ndim != 2:
        raise ValueError(f"attention_mask has {attention_mask.ndim} dimensions; a GRU reads (batch, sequence)")
    else:
        joined = attention_mask[:, 1:] == attention_mask[:, :-1]
    border = torch.zeros(batch, 1, dtype=torch.bool, device=device)
    return ~torch.stack([torch.cat([border, joined], dim=1), torch.cat([joined, border], dim=1)], dim=-1)
