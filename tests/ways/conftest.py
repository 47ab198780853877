"""What a user installs by pip, in environments of their own (`nox -s ways` makes them)."""

import os

ENVIRONMENTS = os.environ.get("AGENTPULSE_TEST_ENVIRONMENTS")

collect_ignore_glob = [] if ENVIRONMENTS else ["test_*.py"]
