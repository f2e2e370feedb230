"""Errors that are meant for the user."""


class UserError(ValueError):
    """Something the user can mend: tools print it as one line, without a traceback, and exit with status 1."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that a setting points to is not there."""
