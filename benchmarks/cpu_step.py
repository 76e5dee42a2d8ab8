"""What a step on a CPU gains from each thing that is done for it: each is left out once, in alternation.

    python benchmarks/cpu_step.py --shape small --dropout 0.1 --json cpu_step.json
    python benchmarks/cpu_step.py --shape modern_small --batch 8 --length 512

Left out are dropout and attention of `cpu_dropout.py` and `cpu_attention.py`, there the blocks of local layers alone
where the shape has such layers, and the two settings of memory of `machine.py`: keeping what is freed, and computing
again what the backward pass multiplies. Every contender has a process of its own.
"""

import statistics

from records import write_record
from training_steps import MODERN, SHAPES, Setting, Worker, bf16_here, comparison_parser, in_turns


RECOMPUTED = "electra-rtd, recomputed as the compiler has it"
WHOLE_ROWS = "electra-rtd, local layers in whole rows"
CONTENDERS = (
    "electra-rtd",
    "electra-rtd, stock dropout",
    "electra-rtd, freed memory returned",
    RECOMPUTED,
    WHOLE_ROWS,
)


def main() -> None:
    parser = comparison_parser(__doc__.partition("\n")[0], [*SHAPES, MODERN])
    parser.add_argument("--uncompiled", action="store_true", help="nothing compiled, and so nothing recomputed")
    arguments = parser.parse_args()
    shape = (arguments.shape, arguments.batch, arguments.length)
    setting = Setting(*shape, arguments.dropout, bf16_here("cpu"), "cpu", not arguments.uncompiled)
    left_out = set(arguments.without)
    if arguments.uncompiled:
        left_out.add(RECOMPUTED)
    if arguments.shape != MODERN:
        left_out.add(WHOLE_ROWS)
    workers = [Worker(name, setting) for name in CONTENDERS if name not in left_out]
    _, turns = in_turns(workers, arguments.rounds, arguments.steps)
    rows = []
    for number, worker in enumerate(workers):
        ratios = [statistics.median(turn[number]["seconds"]) / statistics.median(turn[0]["seconds"]) for turn in turns]
        rows.append(
            {
                "contender": worker.contender,
                "median_seconds": statistics.median(value for turn in turns for value in turn[number]["seconds"]),
                # Turn by turn, so that a machine that slows down slows both sides of a ratio.
                "times_the_first": statistics.median(ratios),
                "peak_bytes": turns[-1][number]["peak_bytes"],
                "losses": [turns[-1][number]["generator_loss"], turns[-1][number]["discriminator_loss"]],
            }
        )
    print(f"{arguments.shape}, {arguments.batch} x {arguments.length}, dropout {arguments.dropout}\n")
    print("| contender | s/step | times the first | peak MB | losses |")
    print("|---|---|---|---|---|")
    for row in rows:
        losses = " / ".join(f"{loss:.6f}" for loss in row["losses"])
        print(
            f"| {row['contender']} | {row['median_seconds']:.3f} | {row['times_the_first']:.2f} "
            f"| {row['peak_bytes'] / 1e6:,.0f} | {losses} |"
        )
    write_record(arguments, rows=rows)


if __name__ == "__main__":
    main()
