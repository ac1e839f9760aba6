"""The scorer: prompt in, strong win rate out."""
