"""`python -m k2.jobs.audit`: the audit of all exchanges in the catalog."""

from k2.jobs import bootstrap
from k2.jobs.audit.runner import main

if __name__ == "__main__":
    bootstrap.exit_process(main())
