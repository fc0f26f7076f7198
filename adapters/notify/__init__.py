"""The ways to notify people: webhook, command, and mail through an SMTP profile. A notification holds no secret."""
