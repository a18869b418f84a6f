"""What the shell of a failed job calls, python -m mlm.ended STATUS: who was killed cannot tell it himself."""

import os
import signal
import sys
from pathlib import Path

from mlm import logs, memory


def tell(status: int, log: Path | None) -> None:
    """Say why a job ended, and note it in its log, where the job did not."""
    number = status - 128
    silent = log is not None and logs.read(log).state in ("", logs.BEGUN)
    error = ""
    if status == memory.KILLED:
        error = memory.of_killed()
    elif number > 0 and number not in logs.ASKED_TO:
        error = f"ended by signal {number} ({signal.strsignal(number)})"
    elif number <= 0 and silent:
        error = f"ended with status {status} before it could say why; Python's own words are in the output"
    if error:
        print(f"error: {error}", file=sys.stderr)
    if log is not None and (silent or error):
        logs.append(log, logs.FAILED if error else logs.STOPPED, error)


def main() -> None:
    """End with the status of the job."""
    status, log = int(sys.argv[1]), os.environ.get(logs.VARIABLE)
    tell(status, Path(log) if log else None)
    sys.exit(status)


if __name__ == "__main__":
    main()
