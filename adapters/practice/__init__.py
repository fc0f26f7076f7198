"""A practice provider and a practice mail server: real servers on loopback, for the demo and the tests.

`provider.PracticeProvider` is an OAuth 2.0 and OpenID authorization server, `mail_server.PracticeMailServer` an SMTP
and POP3 server that accepts the provider's tokens. `browser_user` plays the person who signs in, and `ca.PracticeCA` is
the certificate authority of both servers. The servers answer as real ones do; the tests derive servers with faults
from them.

Needs the extra `mailtoken[practice]`. Importing this package alone imports nothing.
"""
