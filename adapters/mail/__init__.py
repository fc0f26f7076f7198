"""Mail servers, spoken to with access tokens: SMTP submission, POP3 and IMAP.

`server.MailServerClient` is the one that others use; `sasl` has the mechanisms, for whoever speaks them too.
"""
