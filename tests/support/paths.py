"""Where the tests' data lies."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
DATA = TESTS / "data"
GOLDEN = TESTS / "golden"
GOLDEN15 = TESTS / "golden15"
