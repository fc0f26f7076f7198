"""The event log and the rows beside it, on SQLite or PostgreSQL, in one transaction."""
