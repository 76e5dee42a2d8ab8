"""What dropout costs a step on a CPU: stock against `modeling_electra_rtd.cpu_dropout`, in alternation.

python benchmarks/dropout.py --shape small --json dropout.json
"""

import argparse
import itertools
import statistics

from records import write_record
from training_steps import SHAPES, Setting, Worker, bf16_here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--batch", type=int, default=32, help="rows of a step")
    parser.add_argument("--length", type=int, default=128, help="positions of a row")
    parser.add_argument("--probability", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=5, help="turns of every variant")
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--uncompiled", action="store_true", help="leave the compiled variants out")
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    arguments = parser.parse_args()
    shape = (arguments.shape, arguments.batch, arguments.length)
    workers = [
        Worker(contender, Setting(*shape, dropout, bf16_here("cpu"), "cpu", compiled))
        for compiled, dropout, contender in itertools.product(
            (False,) if arguments.uncompiled else (False, True),
            (0.0, arguments.probability),
            ("electra-rtd, stock dropout", "electra-rtd"),
        )
    ]
    for worker in workers:
        worker.warm_up()
    turns = [[worker.run(arguments.steps) for worker in workers] for _ in range(arguments.rounds)]
    for worker in workers:
        worker.stop()
    rows = [
        {
            "layers": "stock" if "stock" in worker.contender else "here",
            "dropout": worker.setting.dropout,
            "compiled": worker.setting.compiled,
            "median_seconds": statistics.median(value for turn in turns for value in turn[number]["seconds"]),
            "losses": [turns[-1][number]["generator_loss"], turns[-1][number]["discriminator_loss"]],
        }
        for number, worker in enumerate(workers)
    ]
    print(f"ELECTRA {arguments.shape}, {arguments.batch} x {arguments.length}\n")
    print("| dropout and attention | probability | compiled | s/step | losses |")
    print("|---|---|---|---|---|")
    for row in rows:
        losses = " / ".join(f"{loss:.3f}" for loss in row["losses"])
        print(
            f"| {row['layers']} | {row['dropout']} | {'yes' if row['compiled'] else 'no'} "
            f"| {row['median_seconds']:.3f} | {losses} |"
        )
    write_record(arguments, rows=rows)


if __name__ == "__main__":
    main()
