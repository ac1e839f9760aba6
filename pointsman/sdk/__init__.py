"""What the SDK's `Controller` is made of."""
