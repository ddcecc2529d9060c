"""`python -m k2.ingest.simulator EXCHANGE`: run one simulated exchange."""

import sys

from k2.ingest.simulator.runner import main

if __name__ == "__main__":
    sys.exit(main())
