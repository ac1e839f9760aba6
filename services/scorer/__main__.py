"""`python -m services.scorer`."""

import os
import sys

from pointsman.chassis.lifecycle import main
from services.scorer.config import load
from services.scorer.serve import serve

if __name__ == "__main__":
    sys.exit(main("scorer", lambda: load(os.environ), serve))
