"""The ways to spell one model: routers, clouds and libraries add prefixes and suffixes to its name.

All names here are in lower case.
"""

import re
from collections.abc import Iterator

# us.anthropic.claude-sonnet-4-5-20250929-v1:0
_BEDROCK = re.compile(
    r"^(?P<region>[a-z]{2,6}(?:-gov)?\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai"
    r"|nvidia|openai|qwen|stability|twelvelabs|writer|zai)\.(?=[a-z])"
)
_BEDROCK_VERSION = re.compile(r"-v\d+(?::\d+)*(?::\d+k)?$")
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_DATE = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6}|latest|default|00\d)$")
_OPENAI_BASE = re.compile(r"^(?:gpt-|o\d|davinci|babbage)")


def spellings(name: str) -> Iterator[str]:
    """The name as it is, then ever barer: without path, without cloud, without date."""
    last = name
    for last in _bare(name):
        yield last
        dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", last)
        if dashed != last:
            yield dashed
    if "@" in last:
        yield last.replace("@", "-")
    undated = _DATE.sub("", last)
    if undated != last:
        yield undated
    if undated.startswith("gpt-35"):
        # Azure spells it so, because its deployments can't have a dot in their names.
        yield undated.replace("gpt-35", "gpt-3.5")


def _bare(name: str) -> Iterator[str]:
    yield name
    while "/" in name:
        name = name.partition("/")[2]
        yield name
    if name.startswith("ft:"):
        base = name.split(":")[1]
        # OpenAI bills a fine-tuned model higher than its base (by half to four times), so where the
        # table has no price of its own for it, the base's would be wrong. Elsewhere (Mistral) calls
        # cost the same.
        if not _OPENAI_BASE.match(base):
            yield base
        return
    cloud = _BEDROCK.match(name)
    if cloud is None:
        return
    if cloud["region"]:
        yield name[cloud.end("region") :]
    name = name[cloud.end() :]
    yield name
    unversioned = _BEDROCK_VERSION.sub("", name)
    if unversioned != name:
        yield unversioned


def cloud_of(name: str) -> str | None:
    """The id of the cloud whose way of naming models this is, or `None`."""
    if name.startswith("arn:aws") or _BEDROCK.match(name):
        return "aws"
    if name.startswith(("publishers/", "projects/")):
        return "google"
    return None
