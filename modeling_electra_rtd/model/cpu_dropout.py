"""Dropout that a CPU can afford.

The stock mask is drawn number after number, and the compiler's own stand-in computes Philox for one element at a
time, which keeps everything fused with it from being vectorised: either way dropout at 0.1 takes longer than the
matrix products it follows (docs/log/speed.md). Compiled, the mask here is a hash of the element's number and two
random keys, integer arithmetic that is vectorised and fused; uncompiled, every 64-bit draw serves four elements.
"""

from typing import Any

import torch
from torch import Tensor, nn


class CpuDropout(nn.Dropout):
    """`nn.Dropout` with another way to its mask on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)


def dropout(values: Tensor, probability: float, training: bool) -> Tensor:
    """`nn.functional.dropout` with another way to its mask on a CPU."""
    on_cpu = values.device.type == "cpu" and values.numel() < 2**31
    if not training or probability in (0.0, 1.0) or not on_cpu:
        return nn.functional.dropout(values, probability, training)
    if torch.compiler.is_compiling():
        return _HashedDropout.apply(values, probability)
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: values.numel()].view(values.shape)
    # The probability in steps of 2**-16; the scale is that of the step, so that the mean stays exactly as it is.
    dropped = round(probability * 2**16)
    return torch.where(bits >= dropped - 2**15, values, 0.0) * (2**16 / (2**16 - dropped))


class _HashedDropout(torch.autograd.Function):
    """Recomputes the mask in the backward pass: storing it takes memory, and forbids the compiler the vector width
    that bf16 wants."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, probability: float) -> Tensor:
        keys, same_keys = random_keys(values)
        ctx.probability = probability
        ctx.save_for_backward(same_keys)
        return _dropped(values, keys, probability)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (keys,) = ctx.saved_tensors
        return _dropped(gradient, keys, ctx.probability), None


def _dropped(values: Tensor, keys: Tensor, probability: float) -> Tensor:
    kept = hashed_counter(values.shape, keys) >= int((probability - 0.5) * 2**32)
    return torch.where(kept, values * (1 / (1 - probability)), 0.0)


# Opaque to the compiler, which would otherwise draw the keys again for every vector of elements; the tag keeps it from
# merging two draws.
@torch.library.custom_op("electra_rtd::random_keys", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def random_keys(values: Tensor) -> tuple[Tensor, Tensor]:
    """Two keys from the global generator, `(2,)` int32, twice: were forward and backward to share one tensor, the
    compiler would take their masks for one and store it."""
    keys = torch.randint(-(2**31), 2**31, (2,), device=values.device).int()
    return keys, keys.clone()


@random_keys.register_fake
def _(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.new_empty(2, dtype=torch.int32), values.new_empty(2, dtype=torch.int32)


def hashed_counter(shape: torch.Size, keys: Tensor) -> Tensor:
    """Pseudo-random int32, uniform over all of them: a hash of each element's number and two keys.

    The finaliser of MurmurHash3 with a key before each of its products; good for masks, not for secrets.

    Args:
        shape: of the result, up to 2**31 elements.
        keys: `(2,)` int32.
    """
    bits = torch.arange(shape.numel(), dtype=torch.int32, device=keys.device) + keys[0]
    bits = _folded(bits, 16) * -2048144789  # 0x85ebca6b as a signed number
    bits = (_folded(bits, 13) ^ keys[1]) * -1028477387  # 0xc2b2ae35
    return _folded(bits, 16).view(shape)


def _folded(bits: Tensor, shift: int) -> Tensor:
    # Right shifts of signed numbers copy the sign, which would lose a bit: the copies are masked out.
    return bits ^ ((bits >> shift) & (2 ** (32 - shift) - 1))
