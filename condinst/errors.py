"""The error that users see: one message, no traceback."""


class UserError(ValueError):
    """Something the user provided cannot be used.

    The message names what was wrong (key, value), what is allowed and what to do. The command
    line prints it without a traceback and exits with status 1.
    """


class PassingError(UserError):
    """An error that may pass when the same command is run again, such as a lost connection."""
