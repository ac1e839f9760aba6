"""`python -m services.demo_provider`."""

import os
import sys

from pointsman.chassis.lifecycle import main
from services.demo_provider.config import load
from services.demo_provider.serve import serve

if __name__ == "__main__":
    sys.exit(main("demo_provider", lambda: load(os.environ), serve))
