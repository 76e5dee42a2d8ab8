"""`FinetuningTrainer`: `Seq2SeqTrainer` with layer-wise rates, and a loss that is one mean over the optimizer step."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Seq2SeqTrainer, Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from .layerwise import layerwise_groups
from .training_args import FinetuningArguments


class FinetuningTrainer(Seq2SeqTrainer):
    """Fine-tunes a stock model.

    Stock heads return the mean of a micro-batch and take any keyword, from which `Trainer` concludes that they have
    divided by the whole step's items: accumulating over n micro-batches then gives n times the gradient, and n
    processes n times the evaluation loss. Here a micro-batch's mean is weighted by its own number of targets over the
    step's, so 4 x 8 rows equal 1 x 32 also where rows have different numbers of targets.

    Args:
        args: `FinetuningArguments`; `predict_with_generate` says whether predictions are generated.
        label_names: columns that hold what is predicted.
        score: held-out metrics by name, from this trainer's predictions; what `evaluate` returns and logs.
        loss: the mean over a batch's targets, of outputs and batch; `None` takes the model's own.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        args: FinetuningArguments,
        label_names: Iterable[str] = ("labels",),
        score: Callable[["FinetuningTrainer"], dict[str, float]] | None = None,
        loss: Callable[[Any, dict[str, Tensor]], Tensor] | None = None,
        **kwargs: Any,
    ):
        args.label_names = list(label_names)
        super().__init__(args=args, **kwargs)
        self._score = score
        self._target_name = next(iter(label_names))
        self._loss = loss
        # No keyword of the loss reaches the model: its plain mean is what compute_loss starts from.
        self.model_accepts_loss_kwargs = False

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            network: Any = self.model
            arguments: Any = self.args
            optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments, network)
            groups = layerwise_groups(
                self.accelerator.unwrap_model(network),
                arguments.learning_rate,
                arguments.layerwise_lr_decay,
                arguments.weight_decay,
                arguments.last_layer_exponent,
            )
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        outputs = model(**inputs)
        if self.label_smoother is not None:
            loss = self.label_smoother(outputs, inputs["labels"])
        else:
            loss = outputs["loss"] if self._loss is None else self._loss(outputs, inputs)
        if num_items_in_batch is not None:
            # Gradients are averaged over ranks, while the count is that of all of them.
            loss = loss * self._targets(inputs) / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> dict[str, float]:
        """Scores by the task's own metrics, which need examples as well as labels: answers, words, references."""
        assert self._score is not None
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._score(self).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _targets(self, batch: dict[str, Tensor]) -> Tensor:
        labels = batch[self._target_name]
        # A score of -100 is a score; only class ids are marked as no target by it.
        is_target = torch.ones_like(labels) if labels.is_floating_point() else labels.ne(-100)
        return is_target.sum()

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | None:
        if not batch_samples or any(self._target_name not in batch for batch in batch_samples):
            return None
        count = torch.stack([self._targets(batch) for batch in batch_samples]).sum().to(device)
        return self.accelerator.gather(count).sum()

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        sampler = super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ShuffledBatches(sampler, seed) if isinstance(sampler, LengthGroupedSampler) else sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        # Grouping by length is for training; predictions come back in the order of the features.
        return SequentialSampler(eval_dataset)


class ShuffledBatches(Sampler):
    """Batches of rows of like length, in random order.

    The stock sampler goes from long rows to short ones, fifty batches at a time, so that a short training ends on
    short rows alone and forgets the long ones. SST-2, whose sentences are longer than most of its training phrases,
    lost seven points to that (docs/log/finetuning.md).

    The order depends on seed and epoch alone. The global random numbers, which the stock sampler takes, are also
    dropout's on a CPU: processes that read rows of other lengths would go on with other orders, and some rows be
    read twice and others never.

    Args:
        grouped: gives the rows, batch by batch.
    """

    def __init__(self, grouped: LengthGroupedSampler, seed: int):
        self._grouped, self._seed, self._epoch = grouped, seed, 0

    def __len__(self) -> int:
        return len(self._grouped)

    def set_epoch(self, epoch: int) -> None:
        """Called by `Trainer` before every epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # Apart by more than any number of epochs, so that no seed begins as its neighbour goes on.
        generator = torch.Generator().manual_seed((self._seed << 20) + self._epoch)
        self._grouped.generator = generator
        rows, size = list(self._grouped), self._grouped.batch_size
        whole = len(rows) // size
        for batch in torch.randperm(whole, generator=generator).tolist():
            yield from rows[batch * size : (batch + 1) * size]
        # What fills no batch stays last: elsewhere it would shift all batches behind it.
        yield from rows[whole * size :]


def inputs_only(
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]], names: Iterable[str]
) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """A collator that sees the columns the model reads and the labels, and none that predictions keep for later."""
    kept = {"input_ids", "attention_mask", "token_type_ids", "position_ids", *names}

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return collator([{name: value for name, value in row.items() if name in kept} for row in rows])

    return collate
