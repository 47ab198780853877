"""`python -m agentpulse` is the command `agentpulse`."""

import sys

from agentpulse.cli import main

sys.exit(main())
