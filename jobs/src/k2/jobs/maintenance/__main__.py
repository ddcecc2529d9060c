"""`python -m k2.jobs.maintenance`: one round of table maintenance."""

from k2.jobs import bootstrap
from k2.jobs.maintenance.runner import main

if __name__ == "__main__":
    bootstrap.exit_process(main())
