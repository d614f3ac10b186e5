"""The error that users see: one message, no traceback."""


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message names what was wrong (key, value), what is allowed and what to do. The command
    line prints it without a traceback and exits with status 1.
    """


class PassingError(UserError):
    """What the same command may get over when it is run again, such as a lost connection."""
