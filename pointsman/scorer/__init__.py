"""The scorer's wire contract."""
