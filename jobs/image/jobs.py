"""The entry point as a file, as `spark-submit` requires."""  # noqa: INP001 - run, never imported

from k2.jobs import bootstrap
from k2.jobs.__main__ import main

bootstrap.exit_process(main())
