"""The one error that a person at the keyboard can put right."""


class InputError(ValueError):
    """A mistake in what the user gave.

    Its message is one plain line that names the culprit and what is allowed;
    the command line prints it and exits 2.

    >>> str(InputError("beta_2 is -1\\nallowed is 0 or more"))
    'beta_2 is -1 allowed is 0 or more'
    """

    def __init__(self, message: str) -> None:
        # Messages quote other libraries' errors, and some of those span lines.
        super().__init__(" ".join(message.splitlines()))
