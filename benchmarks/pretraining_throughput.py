"""Tokens per second of pre-training here, against what one could pick instead; optimizer included.

    pip install --no-deps electra-pytorch==0.1.2
    python benchmarks/pretraining_throughput.py --shape small --dropout 0.0 --json throughput.json

Contenders run in alternation, each in a process of its own: electra-pytorch around stock models, the loop everybody
writes by hand, the same compiled, each in fp32 and under bf16 autocast, the pair of this package in a loop of one's
own, and its step as its recipes run it, in the faster precision. Where bf16 is the slower one nobody is run in it.
Losses are means over the same batches after equally many steps; contenders differ only by what they draw.
"""

import importlib.util
import statistics

import torch
from records import write_record
from training_steps import Setting, Worker, bf16_here, comparison_parser, in_turns


def main() -> None:
    parser = comparison_parser(__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--uncompiled", action="store_true", help="compile only the compiled contender")
    parser.add_argument("--also-slower", action="store_true", help="the others in bf16 too, where that is slower")
    arguments = parser.parse_args()
    names = [name for name in ("electra-pytorch", "by hand", "by hand, compiled") if name not in arguments.without]
    if "electra-pytorch" in names and importlib.util.find_spec("electra_pytorch") is None:
        print("electra-pytorch is not installed: pip install --no-deps electra-pytorch==0.1.2\n")
        names.remove("electra-pytorch")

    def setting(bf16: bool) -> Setting:
        shape = (arguments.shape, arguments.batch, arguments.length)
        return Setting(*shape, arguments.dropout, bf16, arguments.device, not arguments.uncompiled)

    has_fast_bf16 = bf16_here(arguments.device)
    precisions = (False, True) if has_fast_bf16 or arguments.also_slower else (False,)
    if len(precisions) == 1:
        print("bf16 is the slower precision here, and nobody's choice: --also-slower runs the others in it\n")
    workers = [Worker(name, setting(bf16)) for name in names for bf16 in precisions]
    workers += [Worker(name, setting(has_fast_bf16)) for name in ("electra-rtd, own loop", "electra-rtd")]
    losses, turns = in_turns(workers, arguments.rounds, arguments.steps)
    tokens = arguments.batch * arguments.length
    rows = []
    for number, worker in enumerate(workers):
        seconds = [value for turn in turns for value in turn[number]["seconds"]]
        rows.append(
            {
                "contender": worker.contender,
                "bf16": worker.setting.bf16,
                "median_seconds": statistics.median(seconds),
                "tokens_per_second": tokens / statistics.median(seconds),
                # Turn by turn, so that a machine that slows down slows both sides of a ratio.
                "lead": statistics.median(
                    statistics.median(turn[number]["seconds"]) / statistics.median(turn[-1]["seconds"])
                    for turn in turns
                ),
                "first_losses": [losses[number]["generator_loss"], losses[number]["discriminator_loss"]],
                "last_losses": [turns[-1][number]["generator_loss"], turns[-1][number]["discriminator_loss"]],
                "peak_bytes": turns[-1][number]["peak_bytes"],
                "seconds": seconds,
            }
        )
    print(f"ELECTRA {arguments.shape}, {arguments.batch} x {arguments.length}, dropout {arguments.dropout}\n")
    print("| contender | precision | s/step | tokens/s | electra-rtd is faster by | losses: first | last | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        first, last = (" / ".join(f"{loss:.3f}" for loss in row[name]) for name in ("first_losses", "last_losses"))
        print(
            f"| {row['contender']} | {'bf16' if row['bf16'] else 'fp32'} | {row['median_seconds']:.3f} "
            f"| {row['tokens_per_second']:,.0f} | {row['lead']:.2f} | {first} | {last} "
            f"| {row['peak_bytes'] / 1e6:,.0f} |"
        )
    write_record(arguments, rows=rows)


if __name__ == "__main__":
    main()
