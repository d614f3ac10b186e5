"""What happens to bad input: `python -m benchmarks.bad_input` prints docs/bad-input.md's table.

The cases are those of the tests; each is acquired and prepared under every policy.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from pipeline.params import load_params
from tests.pipeline import bad_input

PARAMS = Path(__file__).parents[1] / "profiles" / "sample.yaml"


def main() -> None:
    """Runs all cases and prints."""
    params = load_params(PARAMS)
    print(bad_input.HEADER)
    for number, case in enumerate(bad_input.CASES):
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.redirect_stderr(io.StringIO()):
                outcomes = bad_input.run(case, Path(folder).resolve() / str(number), params)
            print(bad_input.row(case, outcomes))


if __name__ == "__main__":
    main()
