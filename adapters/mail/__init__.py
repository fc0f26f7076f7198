"""Mail servers, spoken to with access tokens: SMTP submission, POP3 and IMAP, one asynchronous client for each.

The relay uses the clients themselves; the connection test and sending use them through `mail_server`.
"""
