"""A practice provider and a practice mail server: real servers on loopback, for the demo and the tests.

`provider.PracticeProvider` is an OAuth 2.0 and OpenID authorization server, `mail_server.PracticeMailServer`
an SMTP and POP3 server that believes its tokens, `person` the human who signs in, `ca.PracticeCA` the
certificate authority both servers need. They answer as real ones do, and misbehave when told to.

Needs the extra `mailtoken[practice]`. Importing this package alone imports nothing.
"""
