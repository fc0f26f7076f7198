"""What we own and run: the event log, the vault and the escrow, the projections, the use cases and the workers.

Each use case loads, lets the domain decide, and saves once; what has to be true together is one transaction.
"""
