"""`python -m k2.ingest.simulator EXCHANGE`: one simulated exchange as a process."""

import sys

from k2.ingest.simulator.runner import main

if __name__ == "__main__":
    sys.exit(main())
