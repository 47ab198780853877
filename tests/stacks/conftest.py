"""The stacks need an environment of their own, with everything in it (`nox -s stacks`)."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("langchain_litellm") else ["*.py"]
