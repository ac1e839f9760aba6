"""The upstream's wire contract."""
