"""`python -m modeling_electra_rtd.cli`, which launchers of several processes need."""

import sys

from .main import main


sys.exit(main())
