"""The rules of Mailtoken. They do no I/O and read no clock, and a replay of the events depends on no random value.

The words, each with its module:

machine        a device whose mail settings are stored here (`machine`)
catalogue      the settings of a machine model, and which of its SMTP settings are linked (`catalogue`)
aggregate      the base of machine, profile, token and the others: a state and its events (`aggregate`)
profile        one mail setting of a machine, named `machine/setting` (`profile`)
SMTP group     linked SMTP profiles that share a token, and the rule that updates them in concert (`smtp_group`)
relay user     a program that may send and receive through the relay, by password or network (`relay_user`)
administrator  a person who may sign in with a password of this service (`administrator`)
API client     a program with a key that may read the tokens of the profiles granted to it (`api_client`)
disclosure     the record of the newest generation of a token that an API client was served (`disclosure`)
token          an authorization to send or receive mail, of an SMTP group or of a single profile (`token`)
lifecycle      the four states of a token, with the manual's labels, and what each permits (`lifecycle`)
attempt        one authorization: the request to the provider, then the person's sign-in (`token_state.Attempt`)
generation     one credential of a token, numbered: each grant and each renewal adds one (`token_state.Generation`)
held           whether the vault has a live credential of a token, a dead credential or nothing (`lifecycle.Held`)
outcome        the answer of a provider, as a value (`outcomes`)
renewal        the rule for when an access token is renewed (`renewal`)
expiry         the cause and the instant that will end a token (`expiry_forecast`)
secret         a value that is never printed or logged (`secret`)
port           an interface to the outside that infrastructure or an adapter implements (`ports`)
"""
