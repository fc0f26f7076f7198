"""The relay: SMTP, POP3 and IMAP for programs that know only passwords. It is a client of the service.

The relay has no key and no store.
"""
