"""Queries of the read models and of the event log. No module here changes anything."""
