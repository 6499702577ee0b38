"""`python -m desk360_async.cli`, where the script `desk360` isn't on the path."""

import sys

from . import main

sys.exit(main())
