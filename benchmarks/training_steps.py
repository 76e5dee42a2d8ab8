"""One optimizer step of pre-training, as different people write it, on the same stock ELECTRA shapes.

Each contender is a function that builds its networks and returns `step(input_ids) -> (generator loss, discriminator
loss)`, optimizer included. `worker` runs one of them in a process of its own, at the command of a benchmark.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining, PreTrainedConfig

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining, ElectraRtdTrainingArguments
from modeling_electra_rtd.common.machine import has_compiler, keep_freed_memory, recompute_for_products
from modeling_electra_rtd.model.backbones import generator_config_for
from modeling_electra_rtd.model.cpu_attention import use_cpu_layers, use_stock_layers
from modeling_electra_rtd.model.encoder_inputs import LOCAL_MASKS
from modeling_electra_rtd.model.precision import faster_precision
from modeling_electra_rtd.pretraining.optimization import create_optimizer
from modeling_electra_rtd.pretraining.recipes import model_config, read_recipe


VOCAB_SIZE = 30522
MASK, SPECIAL = 103, (0, 101, 102, 103)
LEARNING_RATE = 5e-4
DISCRIMINATOR_LOSS_WEIGHT = 50.0
Step = Callable[[Tensor], tuple[Tensor, Tensor]]

# Fields of ElectraConfig, and the generator's width and depth as fractions.
SHAPES: dict[str, tuple[dict[str, int], float, float]] = {
    "tiny": ({"num_hidden_layers": 4, "embedding_size": 256, "intermediate_size": 512}, 1.0, 0.25),
    "small": ({}, 0.25, 1.0),
    "base": (
        {"embedding_size": 768, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        1 / 3,
        1.0,
    ),
    "large": (
        {
            "embedding_size": 1024,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
        },
        0.25,
        1.0,
    ),
}
# A recipe whose networks are one shape more: ModernBERT, with local layers, which stock heads of ELECTRA do not have.
MODERN = "modern_small"


@dataclass(frozen=True)
class Setting:
    """What all contenders of a comparison have in common.

    Attributes:
        shape: a key of `SHAPES`, or `MODERN`.
        batch, length: rows, and positions of a row.
        dropout: probability of every dropout of the networks.
        bf16: whether matrix products run under bf16 autocast.
        device: `cpu` or `cuda`.
        compiled: whether the step of this package is compiled, as its recipes have it.
    """

    shape: str = "small"
    batch: int = 32
    length: int = 128
    dropout: float = 0.0
    bf16: bool = False
    device: str = "cpu"
    compiled: bool = True

    def configs(self) -> tuple[PreTrainedConfig, PreTrainedConfig]:
        """Stock configs of the discriminator and its generator."""
        if self.shape == MODERN:
            recipe = read_recipe(MODERN).model
            own = dict.fromkeys(("embedding_dropout", "attention_dropout", "mlp_dropout"), self.dropout)
            own |= {"max_position_embeddings": max(512, self.length), "vocab_size": VOCAB_SIZE, "pad_token_id": 0}
            own |= dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
            discriminator = model_config({**recipe.discriminator, **own})
            return discriminator, generator_config_for(discriminator, recipe.generator_width, recipe.generator_depth)
        values, width, depth = SHAPES[self.shape]
        discriminator = ElectraConfig(
            **values,
            max_position_embeddings=max(512, self.length),
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
        )
        return discriminator, generator_config_for(discriminator, width, depth)

    def pair_config(self) -> ElectraRtdConfig:
        """The pair of these two in this package."""
        discriminator_config, generator_config = self.configs()
        return ElectraRtdConfig(
            discriminator_config=discriminator_config,
            generator_config=generator_config,
            mask_token_id=MASK,
            special_token_ids=list(SPECIAL),
        )

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)

    def batches(self, count: int) -> list[Tensor]:
        """`(batch, length)` ids of rows as a tokenizer makes them, the same in every process."""
        generator = torch.Generator().manual_seed(0)
        # Words of a text are far from equally frequent; the square of a uniform number is a mild form of it.
        ids = (
            torch.rand(count, self.batch, self.length, generator=generator) ** 2 * (VOCAB_SIZE - 1000)
        ).long() + 1000
        ids[..., 0], ids[..., -1] = 101, 102
        return [rows.to(self.device) for rows in ids]


def _stock_pair(setting: Setting) -> tuple[ElectraForMaskedLM, ElectraForPreTraining]:
    discriminator_config, generator_config = setting.configs()
    generator, discriminator = ElectraForMaskedLM(generator_config), ElectraForPreTraining(discriminator_config)
    generator.electra.embeddings = discriminator.electra.embeddings
    generator.tie_weights()
    return generator.to(setting.device), discriminator.to(setting.device)


def _finished(loss: Tensor, networks: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def electra_pytorch(setting: Setting) -> Step:
    """electra-pytorch 0.1.2 around stock models, as its documentation shows."""
    from electra_pytorch import Electra

    class LogitsAdapter(nn.Module):
        def __init__(self, model: nn.Module):
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.model(input_ids).logits

    generator, discriminator = _stock_pair(setting)
    electra = Electra(
        LogitsAdapter(generator),
        LogitsAdapter(discriminator),
        num_tokens=VOCAB_SIZE,
        mask_token_id=MASK,
        pad_token_id=0,
        mask_prob=0.15,
        mask_ignore_token_ids=[101, 102],
    ).train()
    optimizer = torch.optim.AdamW(electra.parameters(), LEARNING_RATE, eps=1e-6, weight_decay=0.01)

    def step(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        with setting.autocast():
            results = electra(input_ids)
        _finished(results.loss, electra, optimizer)
        return results.mlm_loss.detach(), results.disc_loss.detach()

    return step


def by_hand(setting: Setting, compiled: bool = False) -> Step:
    """The loop everybody writes: full-vocabulary logits, boolean indexing, Gumbel noise."""
    generator, discriminator = _stock_pair(setting)
    networks = nn.ModuleList([generator, discriminator]).train()
    optimizer = torch.optim.AdamW(networks.parameters(), LEARNING_RATE, eps=1e-6, weight_decay=0.01)
    special = torch.tensor(SPECIAL, device=setting.device)

    def losses(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        chosen = (torch.rand(input_ids.shape, device=input_ids.device) < 0.15) & ~torch.isin(input_ids, special)
        hidden = chosen & (torch.rand(input_ids.shape, device=input_ids.device) < 0.85)
        logits = generator(torch.where(hidden, MASK, input_ids)).logits
        generator_loss = nn.functional.cross_entropy(logits[chosen].float(), input_ids[chosen])
        with torch.no_grad():
            scores = logits[chosen].float()
            sampled = (scores - torch.log(-torch.log(torch.rand_like(scores)))).argmax(dim=-1)
            corrupted = input_ids.clone()
            corrupted[chosen] = sampled
        labels = (corrupted != input_ids).float()
        judged = discriminator(corrupted).logits
        return generator_loss, nn.functional.binary_cross_entropy_with_logits(judged.float(), labels)

    if compiled:
        losses = torch.compile(losses)

    def step(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        with setting.autocast():
            generator_loss, discriminator_loss = losses(input_ids)
        _finished(generator_loss + DISCRIMINATOR_LOSS_WEIGHT * discriminator_loss, networks, optimizer)
        return generator_loss.detach(), discriminator_loss.detach()

    return step


def by_hand_compiled(setting: Setting) -> Step:
    """`by_hand` under `torch.compile`."""
    return by_hand(setting, compiled=True)


def our_pair(setting: Setting, stock_layers: bool = False) -> ElectraRtdForPreTraining:
    """The pair as a recipe builds it and the trainer prepares it."""
    model = ElectraRtdForPreTraining(setting.pair_config())
    if stock_layers:
        use_stock_layers(model)
        model.set_attn_implementation("eager")
    elif setting.device == "cpu":
        # Already there, but on a machine with an accelerator.
        use_cpu_layers(model)
    return model.to(setting.device).train()


def ours(
    setting: Setting, stock_layers: bool = False, freed_memory_kept: bool = True, recomputed: bool = True
) -> Step:
    """The step of this package, as its recipes run it."""
    if setting.device == "cpu" and freed_memory_kept:
        keep_freed_memory()
    if setting.device == "cpu" and recomputed:
        recompute_for_products()
    model = our_pair(setting, stock_layers)
    arguments = ElectraRtdTrainingArguments(
        output_dir=os.devnull, learning_rate=LEARNING_RATE, use_cpu=setting.device == "cpu"
    )
    optimizer = create_optimizer(model, arguments)
    forward = torch.compile(model) if setting.compiled and (setting.device != "cpu" or has_compiler()) else model

    def step(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        # As the collator gives it: the number of each position's document.
        with setting.autocast():
            output = forward(input_ids, document_ids=torch.ones_like(input_ids))
        _finished(output.loss, model, optimizer)
        return output.generator_loss, output.discriminator_loss

    return step


def in_own_loop(setting: Setting) -> Step:
    """The pair of this package in a loop of one's own: the public class, `torch.compile` and an optimizer of torch."""
    model = ElectraRtdForPreTraining(setting.pair_config()).to(setting.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, eps=1e-6, weight_decay=0.01)
    forward = torch.compile(model) if setting.compiled and (setting.device != "cpu" or has_compiler()) else model

    def step(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        with setting.autocast():
            output = forward(input_ids)
        _finished(output.loss, model, optimizer)
        return output.generator_loss, output.discriminator_loss

    return step


def ours_with_stock_dropout(setting: Setting) -> Step:
    """`ours` with the dropout of torch, and eager attention, which has it."""
    return ours(setting, stock_layers=True)


def ours_returning_memory(setting: Setting) -> Step:
    """`ours` where freed memory goes back to the system, as the C library has it."""
    return ours(setting, freed_memory_kept=False)


def ours_recomputing_less(setting: Setting) -> Step:
    """`ours` where the backward pass computes again what the compiler chooses."""
    return ours(setting, recomputed=False)


def ours_in_whole_rows(setting: Setting) -> Step:
    """`ours` where local layers compute whole rows and mask them, as stock attention does."""
    LOCAL_MASKS.clear()
    return ours(setting)


CONTENDERS: dict[str, Callable[[Setting], Step]] = {
    "electra-pytorch": electra_pytorch,
    "by hand": by_hand,
    "by hand, compiled": by_hand_compiled,
    "electra-rtd, own loop": in_own_loop,
    "electra-rtd": ours,
    "electra-rtd, stock dropout": ours_with_stock_dropout,
    "electra-rtd, freed memory returned": ours_returning_memory,
    "electra-rtd, recomputed as the compiler has it": ours_recomputing_less,
    "electra-rtd, local layers in whole rows": ours_in_whole_rows,
}


class Worker:
    """A contender in a process of its own, which waits while others run.

    Its memory is its own, and so are settings that belong to a whole process.
    """

    def __init__(self, contender: str, setting: Setting):
        self.contender, self.setting = contender, setting
        self._start()

    def _start(self) -> None:
        command = [sys.executable, __file__, json.dumps({"contender": self.contender, **asdict(self.setting)})]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def warm_up(self) -> dict[str, Any]:
        """The first two steps, which fill memory pools, in a process that finds on disk what the compiler made in
        another one: compiling leaves holes in memory, for as long as its process lives."""
        if "compiled" in self.contender or (self.setting.compiled and self.contender.startswith("electra-rtd")):
            self.run(1)
            self.stop()
            self._start()
        return self.run(2)

    def run(self, steps: int) -> dict[str, Any]:
        """Run steps; their `seconds` each, mean losses, and the `peak_bytes` of memory in them, above what the process
        takes with its libraries loaded.

        Raises:
            RuntimeError: if the process ended.
        """
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.contender} ended with exit code {self._process.wait()}")
        return json.loads(answer)

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def comparison_parser(description: str, shapes: Iterable[str] = SHAPES) -> argparse.ArgumentParser:
    """The options that every comparison of steps has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--shape", choices=list(shapes), default="small")
    parser.add_argument("--batch", type=int, default=32, help="rows of a step")
    parser.add_argument("--length", type=int, default=128, help="positions of a row")
    parser.add_argument("--dropout", type=float, default=0.0, help="probability, of all contenders")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every contender")
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--without", nargs="+", default=[], help="contenders to leave out")
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    return parser


def in_turns(workers: list[Worker], rounds: int, steps: int) -> tuple[list[dict], list[list[dict]]]:
    """What the first steps of every worker gave, and those of every turn; the workers are stopped."""
    # One at a time: the first steps would disturb the others.
    first = [worker.warm_up() for worker in workers]
    turns = [[worker.run(steps) for worker in workers] for _ in range(rounds)]
    for worker in workers:
        worker.stop()
    return first, turns


def _reset_peak(device: str) -> None:
    if device == "cuda":
        return torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say how much memory a process has taken")


def _work() -> None:
    values = json.loads(sys.argv[1])
    contender, setting = values.pop("contender"), Setting(**values)
    # What compilers and libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    torch.manual_seed(0)
    _reset_peak("cpu")
    before = _peak_bytes("cpu")
    step = CONTENDERS[contender](setting)
    batches = setting.batches(8)
    for line in sys.stdin:
        # What compiling takes does not count.
        _reset_peak(setting.device)
        seconds, losses = [], torch.zeros(2, device=setting.device)
        for number in range(int(line)):
            started = time.perf_counter()
            losses += torch.stack(step(batches[number % len(batches)])).float()
            if setting.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        generator_loss, discriminator_loss = (losses / int(line)).tolist()
        peak = _peak_bytes(setting.device) - (before if setting.device == "cpu" else 0)
        answer = {
            "seconds": seconds,
            "generator_loss": generator_loss,
            "discriminator_loss": discriminator_loss,
            "peak_bytes": peak,
        }
        print(json.dumps(answer), file=answers, flush=True)


def bf16_here(device: str) -> bool:
    """Whether the recipes take bf16 here."""
    return faster_precision(device) == "bf16"


if __name__ == "__main__":
    _work()
