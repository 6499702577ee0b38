"""Run the command line as `python -m desk360_async.cli`, if the script `desk360` isn't on the path."""

import sys

from . import script

sys.exit(script())
