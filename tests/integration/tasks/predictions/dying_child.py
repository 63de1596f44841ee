"""In the place of the process that loads a model: ends as one does that reads a damaged tree."""

import os
import signal

os.kill(os.getpid(), signal.SIGSEGV)
