"""`make deploy-test`: docker-compose.yml, proved where an engine can be had.

    a running engine that reaches a registry ──────────────────────────► scenario
    root on Debian ──► supplies (network) ──► namespaces ──► own engine ──► scenario (no network)

Standard library only, so that it runs with whatever Python 3.11 the machine has.
"""
