"""The relay: SMTP, POP3 and IMAP for programs that know only passwords. A client of the service: no key, no store."""
