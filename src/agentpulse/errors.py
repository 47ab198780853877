"""The exceptions of this package. Their texts have the mistake, its source and its correction."""


class AgentPulseError(Exception):
    """The base of our exceptions; none of them ever reaches a call of the user to a library."""


class SettingError(AgentPulseError, ValueError):
    """A setting was given a value that it can't have."""


class SettingTypeError(SettingError, TypeError):
    """A setting was given an argument of a type that it can't have."""
