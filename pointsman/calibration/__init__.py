"""From win rates to a threshold: by strong share, by money, or by a promise about quality."""
