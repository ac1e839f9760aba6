"""Load and figures: what routing a request costs, beside the same request sent directly."""
