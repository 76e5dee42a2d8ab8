"""Print every parameter's learning rate: `python scripts/print_learning_rates.py [MODEL] [--layerwise-lr-decay D]`.

Without a model, those of a three-layer ELECTRA; docs/how-to/finetuning.md has the formula.
"""

import argparse
import sys

from transformers import AutoModelForSequenceClassification, ElectraConfig
from transformers.utils import logging

from modeling_electra_rtd.finetuning.kinds.heads import fresh, load_with_new_head
from modeling_electra_rtd.finetuning.layerwise import layerwise_groups, learning_rate_exponents
from modeling_electra_rtd.finetuning.training_args import FinetuningArguments


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", help="checkpoint folder or Hub id")
    parser.add_argument("--learning-rate", type=float, default=FinetuningArguments.learning_rate)
    parser.add_argument("--layerwise-lr-decay", type=float, default=FinetuningArguments.layerwise_lr_decay)
    parser.add_argument("--last-layer-exponent", type=int, choices=(1, 2), default=1)
    arguments = parser.parse_args(argv)
    logging.disable_progress_bar()
    try:
        model = (
            fresh(AutoModelForSequenceClassification, ElectraConfig(num_hidden_layers=3))
            if arguments.model is None
            else load_with_new_head(AutoModelForSequenceClassification, arguments.model)
        )
        exponents = learning_rate_exponents(model, arguments.last_layer_exponent)
    except ValueError as error:
        print(f"print_learning_rates: error: {error}", file=sys.stderr)
        return 2
    groups = layerwise_groups(
        model, arguments.learning_rate, arguments.layerwise_lr_decay, 0.01, arguments.last_layer_exponent
    )
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        print(f"{rates[id(parameter)]:.4e}  decayed {exponents[name]} times  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
