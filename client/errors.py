"""Errors of the client; each has its exit code.

ClientError
├── RefusedError      1  the daemon said no; carries its Problems
├── UsageError        2  found before asking the daemon; one line each
└── UnreachableError  3  nobody answers on the socket
"""

from contract.problems import Problem


class ClientError(Exception):
    """Base of all; one line for each thing that is wrong."""

    exit_code = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """What to print."""
        return (str(self),)


class RefusedError(ClientError):
    """The daemon refused; nothing was changed."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems

    @property
    def lines(self) -> tuple[str, ...]:
        """One for each problem."""
        return tuple(map(str, self.problems))


class UsageError(ClientError):
    """The command line is wrong; the daemon was not asked."""

    exit_code = 2

    @property
    def lines(self) -> tuple[str, ...]:
        """One for each mistake."""
        return self.args


class UnreachableError(ClientError):
    """No daemon answers. The message says how to start one."""

    exit_code = 3
