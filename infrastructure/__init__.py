"""The service below its surfaces: the event log, the vault and the escrow, the queries, the use cases and the workers.

Each use case loads aggregates, lets the domain decide, and saves all changes in a single transaction.
"""
