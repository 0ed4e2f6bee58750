"""The seed of everything random in the tests: another in every run, printed at its end; SEED=… repeats one."""

import os
import secrets

SEED = int(os.environ.setdefault("SEED", str(secrets.randbelow(2**32))))
"""Of this run, and of the processes it starts."""
