"""The layers as a file, which is what `spark-submit` wants."""  # noqa: INP001 - run, never imported

from k2.jobs import bootstrap
from k2.jobs.__main__ import main

bootstrap.exit_process(main())
