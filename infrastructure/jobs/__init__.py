"""Bulk actions over a selection of machines, which run in the service."""
