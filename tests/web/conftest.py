"""A web server needs an environment of its own (`nox -s web`)."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("uvicorn_worker") else ["*.py"]
