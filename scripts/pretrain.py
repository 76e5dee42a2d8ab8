"""Pre-train under a launcher: `accelerate launch scripts/pretrain.py RECIPE [--resume] [--field value]`."""

import sys

from modeling_electra_rtd.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
