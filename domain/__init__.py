"""What Mailtoken decides. It knows no I/O, no clock and no randomness that replay would see.

The words, each with its one home:

machine      a device whose mail settings are kept here (`machine`)
catalogue    the settings a machine model has, and which SMTP ones are linked (`catalogue`)
profile      what one mail setting of a machine holds, named `machine/setting` (`profile`)
SMTP group   linked SMTP profiles that share one token, and the rule that updates them in concert (`smtp_group`)
relay user   who may send and receive through the relay, by a password or a network (`relay_user`)
administrator  a person who may sign in with a password of this service's own (`administrator`)
client       a program with a key that may read the tokens of the profiles it was granted (`client`)
reader       one client of one token, and the newest generation it was handed (`reader`)
token        the aggregate: one for an SMTP group, one for each POP or IMAP profile (`token`)
lifecycle    its four states, with the manual's labels, and the only list of transitions (`lifecycle`)
attempt      one authorization: asking the provider, and waiting for a person to sign in (`token.Attempt`)
generation   one credential of a token, by number: each grant and each renewal brings one (`token.Generation`)
held         what a token has in the vault while something else goes on (`lifecycle.Held`)
outcome      what a provider or mail server answered, as a value (`outcomes`)
renewal      when an access token is renewed (`renewal`)
secret       a value that must never be seen (`secret`)
port         what all this needs of the world (`ports`)
"""
