"""What is told to a person who can put it right."""


class InputError(Exception):
    """Bad input: the message names the file, the key and the remedy.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DiskFull(InputError):
    """No room for a file: the message names it, what it needs and what is free."""


class OtherEachTime(InputError):
    """A part of the user's own that makes other bits each time, so that no digest tells what a run was."""


class Damaged(InputError):
    """A file that exists but is not what was written: truncated, altered or of another run."""
