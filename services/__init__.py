"""The three services, the demo provider, and one command that runs them all."""

import os

# gRPC's core prints lines of its own beside ours, about a taken port for one, and decides whether
# to when it is imported. GRPC_VERBOSITY=error brings them back.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
