"""The fault wall: sixteen ways in which a provider fails, and what is right each time."""
