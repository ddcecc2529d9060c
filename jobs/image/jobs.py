"""The layers as a file, which is what `spark-submit` wants."""  # noqa: INP001 - run, never imported

import os
import sys

from k2.jobs.__main__ import main

code = main()
sys.stdout.flush()
os._exit(code)  # py4j's callback threads would keep a failed process alive
