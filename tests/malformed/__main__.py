"""Write docs/refusals.md: python -m tests.malformed."""

import tempfile
from pathlib import Path

from tests import conftest  # noqa: F401 - golden runs are kept where the tests keep them
from tests.malformed.catalogue import LIST, document, entries

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = list(entries(Path(folder).resolve()))
    LIST.write_text(document(found), encoding="utf-8")
    print(f"{LIST}: {len(found)} malformed inputs")
