"""The local server: the ingest protocol on this machine, with a page that shows the events.

Needs the extra `server`. `agentpulse dev` runs it in the foreground; tests and the demo use
`LocalServer`. It listens on 127.0.0.1 alone.
"""

from agentpulse.server._local import LocalServer, PortError
from agentpulse.server._storage import DatabaseError

__all__ = ["DatabaseError", "LocalServer", "PortError"]
