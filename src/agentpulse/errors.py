"""The exceptions of this package. Each says what was wrong, where it came from and what to do."""


class AgentPulseError(Exception):
    """The base of what AgentPulse raises; it never reaches a call of the user to a library."""


class SettingError(AgentPulseError, ValueError):
    """A setting was given a value that it can't have."""


class SettingTypeError(SettingError, TypeError):
    """A setting was given an argument of a type that it can't have."""
