"""What a step of pre-training costs: its operators, FLOPs and bytes, counted without computing anything.

The real code of a step runs on tensors that have shapes and no data, so whatever the model, the attention and the
optimizer do is counted as it is. The same counter, on real tensors, times every operator for a calibration.
"""

import copy
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.initialization import no_init_weights
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..common.training_arguments import ElectraRtdTrainingArguments
from ..model.cpu_attention import use_cpu_layers, use_stock_layers
from ..model.encoder_inputs import ATTENTIONS
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from .optimization import create_optimizer
from .schedules import StepShape, largest_mask_probability, run_shapes


GENERATOR, DISCRIMINATOR, OPTIMIZER, BETWEEN = "generator", "discriminator", "optimizer", "corruption and losses"
_FUSED = "sdpa_with_dropout_inside"
_LOOKUPS = {"embedding", "gather", "index", "index_select"}
_aten = torch.ops.aten


def _cpu_attention_flops(query: Tensor, key: Tensor, value: Tensor, *args: Any, out_val: Any = None, **kwargs: Any):
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _cpu_attention_backward_flops(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
):
    return sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape)


# The stock counter knows the fused attention of GPUs and takes that of a CPU for free.
FLOP_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    _aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward_flops,
}


@dataclass(frozen=True)
class Operator:
    """A kind of call: calls that are equal in all of this are counted together.

    Attributes:
        name: of the ATen operator, without `aten::` and overload.
        part: `GENERATOR`, `DISCRIMINATOR`, `OPTIMIZER` or `BETWEEN`; backward passes belong to their forward's.
        dtype: of its first tensor.
        flops: of a call; 2 for each multiply-add, 0 for everything that is not a matrix product.
        bytes_moved: of a call; what it reads and writes.
    """

    name: str
    part: str
    dtype: str
    flops: int
    bytes_moved: int


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a step, when the optimizer has its state.

    Attributes:
        weights, gradients, optimizer: of all parameters and buffers.
        activations: what the forward pass leaves behind for the backward pass.
        peak: the most that is alive at one time.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int

    @property
    def lasting(self) -> int:
        """What stays from step to step."""
        return self.weights + self.optimizer

    @property
    def passing(self) -> int:
        """The most that is alive at one time besides what lasts."""
        return self.peak - self.lasting

    @property
    def workspace(self) -> int:
        """What else is alive at the peak, less the gradients that are not there yet."""
        return self.passing - self.activations


@dataclass(frozen=True)
class StepCost:
    """One optimizer step on one device.

    Attributes:
        calls: how often every operator is called.
        memory: bytes, by what holds them.
        parameters: number of them in the generator alone, and in the discriminator with what is shared.
    """

    calls: Counter
    memory: Memory
    parameters: dict[str, int]

    def flops(self, part: str | None = None) -> int:
        """Floating-point operations of a part, or of all of it; `torch.utils.flop_counter` counts the same."""
        return sum(operator.flops * count for operator, count in self.calls.items() if part in (None, operator.part))


class OperatorCounter(TorchDispatchMode):
    """Counts the operators that run under it, and what they allocate.

    Attributes:
        calls: `Operator` -> number of calls.
        seconds: `Operator` -> seconds in them, where `timed`.
        live, peak: bytes of the tensors made under it, now and at most.
    """

    def __init__(self, timed: bool = False):
        super().__init__()
        self.timed = timed
        self.calls: Counter[Operator] = Counter()
        self.seconds: Counter[Operator] = Counter()
        self.live = self.peak = 0
        self._known: weakref.WeakSet = weakref.WeakSet()
        self._part = BETWEEN
        # Autograd numbers its nodes; the nodes of a part are known by their numbers when they run backwards.
        self._nodes: list[tuple[int, int, str]] = []

    @contextmanager
    def parts(self, model: ElectraRtdForPreTraining) -> Iterator[None]:
        """Tell the networks of a pair apart."""
        # The pair's children are the generator, the encoder and the heads that the objective asks for.
        modules = {
            child: GENERATOR if name == "generator" else DISCRIMINATOR for name, child in model.named_children()
        }
        handles = []
        for module, part in modules.items():
            handles.append(module.register_forward_pre_hook(lambda *_, part=part: self._enter(part)))
            handles.append(module.register_forward_hook(lambda *_, part=part: self._leave(part)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def part(self, part: str) -> Iterator[None]:
        """Everything inside belongs to a part."""
        self._part = part
        try:
            yield
        finally:
            self._part = BETWEEN

    def _enter(self, part: str) -> None:
        self._part, self._first_node = part, torch._C._autograd._get_sequence_nr()

    def _leave(self, part: str) -> None:
        self._nodes.append((self._first_node, torch._C._autograd._get_sequence_nr(), part))
        self._part = BETWEEN

    def _part_now(self) -> str:
        node = torch._C._current_autograd_node()
        if node is None:
            return self._part
        number = node._sequence_nr()
        return next((part for first, end, part in self._nodes if first <= number < end), BETWEEN)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if func.namespace == "prim":
            return func(*args, **kwargs)
        if packet not in FLOP_FORMULAS:
            with self:
                decomposed = func.decompose(*args, **kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        started = time.perf_counter()
        result = func(*args, **kwargs)
        if self.timed and torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in outputs:
            self._allocated(tensor.untyped_storage())
        if func.is_view or not (outputs or inputs):
            return result
        name = packet.__name__
        # What returns nothing has changed what it was given.
        written = sum(tensor.nbytes for tensor in outputs or inputs)
        # A lookup reads the rows that it finds.
        read = written if name in _LOOKUPS else sum(tensor.nbytes for tensor in inputs)
        formula = FLOP_FORMULAS.get(packet)
        flops = 0 if formula is None else formula(*args, **kwargs, out_val=result)
        dtype = str((inputs or outputs)[0].dtype).removeprefix("torch.")
        operator = Operator(name, self._part_now(), dtype, flops, read + written)
        self.calls[operator] += 1
        if self.timed:
            self.seconds[operator] += seconds
        return result

    def _allocated(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known.add(storage)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.live -= size


@dataclass
class Step:
    """An optimizer step as the trainer takes it, on made-up text.

    Attributes:
        model: the pair, on the device and prepared for it.
        arguments: of the run; batch, accumulation, precision, clipping and the optimizer are taken from them.
        length: positions of a row.
        forward: the model, compiled; `None` for the model as it is.
    """

    model: ElectraRtdForPreTraining
    arguments: ElectraRtdTrainingArguments
    length: int
    forward: nn.Module | None = None
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self):
        self.optimizer = create_optimizer(self.model, self.arguments)
        self.forward = self.model if self.forward is None else self.forward
        device = self.model.device
        shape = (self.arguments.per_device_train_batch_size, self.length)
        words = torch.arange(shape[0] * shape[1], device=device) % self.model.config.vocab_size
        self._batch = {
            "input_ids": words.view(shape),
            "document_ids": torch.ones(shape, dtype=torch.int64, device=device),
            "position_ids": torch.arange(self.length, device=device).expand(shape).contiguous(),
        }
        if self.model.config.masking_strategy != "token":
            self._batch["word_starts"] = torch.ones(shape, dtype=torch.bool, device=device)
        if self.arguments.initial_mask_probability is not None:
            largest = largest_mask_probability(self.arguments, self.model.config.mask_probability)
            count = self.model.number_of_uniforms(self.length, largest)
            self._batch["corruption_uniforms"] = torch.rand(shape[0], count, device=device)

    def losses(self) -> Tensor:
        """The loss of one micro-batch."""
        device = self.model.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.arguments.bf16):
            return self.forward(**self._batch).loss

    def update(self) -> None:
        """Clip the gradients, change the weights."""
        if self.arguments.max_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __call__(self) -> None:
        for _ in range(self.arguments.gradient_accumulation_steps):
            self.losses().backward()
        self.update()


def count_step(
    build: Callable[[], ElectraRtdForPreTraining], arguments: ElectraRtdTrainingArguments, length: int, device: str
) -> StepCost:
    """Count an optimizer step.

    Args:
        build: makes the pair, whose config is changed for the device; nothing is allocated for it.
        arguments: of the run.
        length: positions of a row.
        device: `cpu`, or another type, whose attention is counted as one kernel that keeps no scores.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        # Initial values are drawn in loops that look at them.
        with no_init_weights():
            model = build().train()
        model.tie_weights()
        if device == "cpu":
            use_cpu_layers(model)
        else:
            # Which the pair has taken for the machine that plans.
            use_stock_layers(model)
            if model.encoder.config._attn_implementation == "sdpa":
                model.set_attn_implementation(_FUSED)
        if arguments.activation_checkpointing:
            model.activation_checkpointing_enable(arguments.activation_checkpointing_kwargs)
        weights = _bytes_of([*model.parameters(), *model.buffers()])
        step = Step(model, arguments, length)
        counter = OperatorCounter()
        with counter, counter.parts(model):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            # The first update makes the optimizer's state.
            step.update()
            counter.calls.clear()
            counter.peak = before = counter.live
            loss = step.losses()
            activations = counter.live - before
            loss.backward()
            calls = Counter(
                {operator: n * arguments.gradient_accumulation_steps for operator, n in counter.calls.items()}
            )
            gradients = _bytes_of([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
            if arguments.gradient_accumulation_steps > 1:
                step.losses().backward()
            counter.calls.clear()
            with counter.part(OPTIMIZER):
                step.update()
            calls += counter.calls
    counts = model.parameter_counts()
    state = [value for values in step.optimizer.state.values() for value in values.values()]
    return StepCost(
        calls=calls,
        memory=Memory(
            weights=weights,
            gradients=gradients,
            optimizer=_bytes_of([value for value in state if isinstance(value, Tensor)]),
            activations=activations,
            peak=weights + counter.peak,
        ),
        parameters={DISCRIMINATOR: counts["discriminator"], GENERATOR: counts["generator_not_shared"]},
    )


def count_run(
    build: Callable[[], ElectraRtdForPreTraining],
    arguments: ElectraRtdTrainingArguments,
    length: int,
    device: str,
    steps: int,
    known: dict[StepShape, StepCost] | None = None,
) -> list[tuple[int, StepShape, StepCost]]:
    """Count the steps of a run, whose batch and rows may grow: how many have which shape and cost.

    Args:
        build, arguments, length, device: as for `count_step`.
        steps: of the run.
        known: costs that were counted before, which new ones are added to.
    """
    known = {} if known is None else known
    counted = []
    for shape, count in run_shapes(arguments, length, steps).items():
        if shape not in known:
            of_shape = copy.copy(arguments)
            of_shape.gradient_accumulation_steps = shape.micro_batches
            of_shape.per_device_train_batch_size = shape.rows
            known[shape] = count_step(build, of_shape, shape.length, device)
        counted.append((count, shape, known[shape]))
    return counted


def _bytes_of(tensors: list[Tensor]) -> int:
    return sum({id(tensor): tensor.nbytes for tensor in tensors}.values())


def _attention_of_a_gpu(module: nn.Module, *states: Any, dropout: float = 0.0, **kwargs: Any) -> Any:
    # A GPU's kernel draws its own dropout; with a dropout to do, a CPU, where this is counted, takes another kernel.
    return sdpa_attention_forward(module, *states, dropout=0.0, **kwargs)


ATTENTIONS.append(_FUSED)
AttentionInterface.register(_FUSED, _attention_of_a_gpu)
AttentionMaskInterface.register(_FUSED, sdpa_mask)
