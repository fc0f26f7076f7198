"""The sentences of errors, by code: the fact, which is the same everywhere, and the next step, which each surface says
in its own words. A page names no command, and the command line no button.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from adapters.texts.provider_replies import said_text, why_text
from adapters.texts.reasons import why
from adapters.texts.store_errors import STORE_ERRORS
from adapters.texts.wording import ErrorText, Surface
from domain.errors import MailtokenError, facts
from domain.lifecycle import TokenStatus
from domain.outcomes import REPLY_FACTS

ERRORS: Mapping[str, ErrorText] = MappingProxyType(
    {
        # Tokens
        "token_not_retrieved": ErrorText(
            "the token is {status}",
            command="get a token first (mailtoken token get)",
            page="get a token first, with Get Token",
            api="get a token first",
        ),
        "token_waiting": ErrorText(
            "the token is {status}",
            "finish the sign-in or cancel it first",
            command="finish the sign-in (mailtoken token code shows it again) or cancel it first (mailtoken token"
            " cancel)",
        ),
        "token_held": ErrorText(
            "the token is {status}",
            "delete the token first",
            command="delete the token first (mailtoken token delete)",
        ),
        "token_in_the_way": ErrorText(
            "the token is {status}",
            "delete it first, or say delete_token = true in the file",
            command="delete the token first (mailtoken token delete), or say delete_token = true in the file",
        ),
        "token_invalid": ErrorText("the token is {status}. {because}"),
        "token_retired": ErrorText("the token is gone", "its last setting was removed"),
        "nothing_to_delete": ErrorText("the token is {status}", "there is nothing to delete"),
        "unknown_flow": ErrorText("{value!r} is not a flow of provider {provider}; it has: {known}"),
        "not_filled_in": ErrorText(
            "{missing} not filled in",
            command="mailtoken profile set {profile} {assignments}",
            page="fill it in on the page of the setting",
            api="fill it in first",
        ),
        "no_sign_in_under_way": ErrorText("the token is {status}: no sign-in is under way"),
        "no_browser_sign_in": ErrorText(
            "no browser sign-in is under way",
            command="get a token first (mailtoken token get)",
            page="get a token first, with Get Token",
            api="get a token first",
        ),
        "redirect_of_no_sign_in": ErrorText("it belongs to no sign-in that is under way", "get the token again"),
        "redirect_uri_missing": ErrorText("a browser needs an address to come back to"),
        "sign_in_reply_unread": ErrorText(
            "the provider's reply is kept and can't be read yet",
            "look at the setting's status in a while",
            command="see mailtoken status",
        ),
        "sign_in_being_completed": ErrorText(
            "this sign-in is being completed already", "look at the setting's status", command="see mailtoken status"
        ),
        "sign_in_not_completed": ErrorText("the provider can't be reached now", "repeat it"),
        "no_refresh_token": ErrorText(
            "no refresh token is held",
            command="get a token (mailtoken token get)",
            page="get a token, with Get Token",
            api="get a token",
        ),
        "token_update_failed": ErrorText("Token update failed. {because}"),
        "renewed_for_another_account": ErrorText(
            "the provider renewed the token for {signed_in_as}, not for {account}; the reply is kept sealed and unused",
            "ask the provider's administrator whose account it is, or delete the token and get it again",
        ),
        "access_token_expired": ErrorText("the access token has expired and could not be renewed", "try again"),
        "access_token_expires_soon": ErrorText(
            "the access token has only {seconds_left} seconds left and could not be renewed", "try again"
        ),
        "longer_than_life": ErrorText("{value} seconds is more than this token's whole life of {life_seconds} seconds"),
        "earlier_reply_unread": ErrorText("an earlier reply can't be read yet", "try again"),
        "other_renewal_unfinished": ErrorText("another renewal of this token does not finish", "try again"),
        "other_renewal_failed": ErrorText("another renewal of this token has just failed", "try again"),
        "renewal_put_off": ErrorText("the provider can't renew it now ({why})", "try again"),
        "reply_in_doubt": ErrorText("the provider's reply makes no sense ({why}); it is kept", "try again"),
        "client_registration_refused": ErrorText(
            "the provider refuses our client registration ({why})", "correct {setting}; the token is unchanged"
        ),
        "token_changes_too_fast": ErrorText("others are changing the token all the time", "try again"),
        "disclosure_not_recorded": ErrorText("others are reading the token all the time", "try again"),
        "no_space_in_store": ErrorText("no space to store a new token", "free space where the store is"),
        "no_space_in_escrow": ErrorText("no space to store a new token ({reason})", "free space in {directory}"),
        "not_ready": ErrorText("no token could be stored now", "the log of the service says why"),
        "workers_dead": ErrorText("these workers of the service have ended: {workers}", "restart the service"),
        "descriptors_few": ErrorText("the service is about to run out of file descriptors", "raise LimitNOFILE"),
        "reply_not_safe": ErrorText("storage failing ({reason}): a reply is not safe in {directory}"),
        "typed_over_older_values": ErrorText(
            "somebody else has changed it meanwhile, and nothing was saved", "compare what is marked and save again"
        ),
        "instant_in_the_future": ErrorText("{value} has not come yet", "choose an instant that is past"),
        "not_an_instant": ErrorText("{value!r} is not an ISO 8601 instant like 2026-11-22T09:30:00+00:00"),
        # Settings, machines and groups
        "no_events_about": ErrorText("no event is about {name!r}"),
        "profile_not_found": ErrorText(
            "no profile is called {profile!r}",
            command="profiles are named machine/setting, see mailtoken profile list",
        ),
        "machine_not_found": ErrorText("no machine is called {machine!r}", command="see mailtoken machine list"),
        "catalogue_unknown": ErrorText("no catalogue is called {name!r}; there are: {known}"),
        "catalogue_setting_unknown": ErrorText("catalogue {catalogue} has no setting {name!r}; it has: {known}"),
        "not_a_field": ErrorText("not a field of a {protocol} setting; it has: {known}"),
        "not_a_host": ErrorText("{value!r} is not a host name or IP address"),
        "not_an_email_address": ErrorText("{value!r} is not an e-mail address like scan@contoso.com"),
        "not_a_line": ErrorText("{value!r} is not 1 to {longest} characters without line breaks or control characters"),
        "not_a_provider_name": ErrorText("{value!r} is not the name of a provider"),
        "number_not_in_range": ErrorText("{value!r} is not a whole number from {lowest} to {highest}"),
        "duration_not_in_range": ErrorText("{value!r} is not a whole number from {lowest} to {highest} {unit}"),
        "not_a_choice": ErrorText("{value!r} is not one of: {choices}"),
        "not_a_name": ErrorText(
            "{value!r} is not a name", step="1 to 63 letters, digits, '.', '-' or '_', no sign at either end"
        ),
        "job_not_found": ErrorText("there is no job {id}", step="a job that ended long ago is forgotten"),
        "too_many_jobs": ErrorText("{most} jobs run already", step="wait for one to end, or stop one"),
        "too_many_machines": ErrorText("a job takes at most {most} machines", step="select fewer"),
        "no_fields": ErrorText("no field is to be set"),
        "no_tags": ErrorText("no tag is to be added or taken away"),
        "not_a_tag": ErrorText(
            "{value!r} is not a tag", step="1 to 32 letters, digits, '.', ':', '-' or '_', no sign at either end"
        ),
        "too_many_tags": ErrorText("a machine has at most {most} tags"),
        "name_taken": ErrorText("{name}: there is a {kind} with this name already"),
        "profile_outdated": ErrorText("{profile} has changed since it was looked at", step="look again and repeat it"),
        "not_an_smtp_setting": ErrorText("is not an SMTP setting", step="POP and IMAP settings are independent"),
        "not_linked": ErrorText("it is not linked to any SMTP group"),
        "relay_user_mapped": ErrorText(
            "relay user {user} is mapped to it",
            step="map them to another one or remove them first",
            command="map them to another one (mailtoken relay user map {user} PROFILE...) or remove them first",
        ),
        "removed_meanwhile": ErrorText(
            "somebody else removed something of this at the same moment", step="look at the plan again"
        ),
        "plan_outdated": ErrorText("what is there has changed since this was planned", step="look at the plan again"),
        "not_one_plan": ErrorText("If-Match names no plan, or several", step="look at the plan again"),
        "not_entity_tags": ErrorText('it is not a list of entity tags like "3d6f0a86.7"'),
        "only_operators_delete_tokens": ErrorText("its token has to be deleted, and only an operator may do that"),
        "absent_machine_with_settings": ErrorText("an absent machine has no settings"),
        "absent_setting_with_fields": ErrorText("an absent setting has no fields"),
        "other_catalogue": ErrorText("its catalogue is {catalogue}, not {wanted}", step="remove the machine first"),
        "in_two_groups": ErrorText("{profile} is in the group {group} already", step="a setting is in one group"),
        "other_than_the_groups_token": ErrorText("the token of the group {group} is for {held}, not {value!r}"),
        "sign_in_in_the_way": ErrorText(
            "the token is {status}",
            step="finish the sign-in or cancel it first, or say delete_token = true in the file",
            command="finish the sign-in or cancel it first (mailtoken token cancel),"
            " or say delete_token = true in the file",
        ),
        "tls_needed": ErrorText("'none' is accepted only towards a loopback server", step="use starttls or implicit"),
        # Administrators, clients and relay users
        "too_many_wrong_passwords": ErrorText(
            "too many wrong passwords", "wait {retry_after_seconds} seconds and try again"
        ),
        "administrator_not_found": ErrorText(
            "no administrator is called {name!r}", command="see mailtoken administrator list"
        ),
        "administrator_exists": ErrorText("{name}: there is an administrator with this name already"),
        "administrators_exist": ErrorText(
            "there are administrators already", "name the one who is to choose a new password"
        ),
        "last_administrator": ErrorText(
            "{name} is the last administrator who can sign in",
            "let another person be administrator and choose a password first",
            command="let another person be administrator and choose a password first (mailtoken administrator add,"
            " mailtoken administrator roles)",
        ),
        "roles_missing": ErrorText("there is none: a person is one or more of {accepted}"),
        "unknown_role": ErrorText("{values}: a person is one or more of {accepted}"),
        "password_unsuitable": ErrorText(
            "a password has {shortest} to {longest} characters, spaces included, and no control characters"
        ),
        "set_up_link_over": ErrorText(
            "this link is not good any more",
            "ask an administrator for a new one",
            command="mailtoken administrator link gives a new one",
        ),
        "set_up_link_without_administrator": ErrorText("this link is not good any more: its administrator was removed"),
        "no_pages": ErrorText("there is no page to lead to: set listen in [server] of the configuration"),
        "wrong_name_or_password": ErrorText("wrong name or password"),
        "not_a_pattern": ErrorText("{value!r} is not like the name of a machine, in which * stands for any characters"),
        "administrator_limited": ErrorText(
            "an administrator is never limited to machines", "only operators and auditors are"
        ),
        "token_shared_outside": ErrorText(
            "the token of {profile} is shared with a machine that {name} is not responsible for",
            "an administrator says who is limited to which machines",
        ),
        "of_every_machine": ErrorText("{name} is limited to some machines, and this is about all of them"),
        "second_factor_exists": ErrorText("there is a second factor already", "remove it first, with a code of it"),
        "second_factor_missing": ErrorText("{name} has no second factor"),
        "second_factor_own": ErrorText(
            "it is your own second factor",
            page="remove it on the page of your account, with a code of it",
            step="sign in and remove it on the page of your account, with a code of it",
        ),
        "second_factor_of_member": ErrorText("members of the organisation have no second factor here"),
        "wrong_code": ErrorText("this code is not right, or was used already", "wait for the next code of the app"),
        "enrolment_over": ErrorText("that key is not good any more", "begin again with the new one"),
        "too_many_sign_ins": ErrorText("too many sign-ins at once", "try again"),
        "passwords_differ": ErrorText("the two are not the same", "type it twice"),
        "no_organisation_sign_in": ErrorText("no organisation's sign-in is configured"),
        "sign_in_over": ErrorText("this sign-in was begun elsewhere or is over", "begin again here"),
        "sign_in_finished": ErrorText("this sign-in was finished just now", "begin again here"),
        "no_authorization_endpoint": ErrorText("{name} has no authorization_endpoint", "correct [server.sign_in]"),
        "authority_of_every_tenant": ErrorText(
            "{name} speaks for every tenant", "name your own in the provider's tenant"
        ),
        "nobody_signed_in": ErrorText("{name} signed nobody in", "try again"),
        "id_token_invalid": ErrorText("{name}'s proof of who signed in does not hold ({check})"),
        "sign_in_unavailable": ErrorText("{name} can't sign anybody in now (HTTP {status})", "try again"),
        "sign_in_not_accepted": ErrorText("{name} did not accept the sign-in (HTTP {status})", "try again"),
        "account_not_named": ErrorText(
            "{name} does not say who signed in", "correct account_claims in [server.sign_in]"
        ),
        "account_without_group": ErrorText(
            "{account} is in no group that may sign in here", "[server.sign_in] groups says which are"
        ),
        "client_not_found": ErrorText("no client is called {name!r}", command="see mailtoken client list"),
        "client_exists": ErrorText("{name}: there is a client with this name already"),
        "expiry_in_the_past": ErrorText("{at} is over", "name a day to come"),
        "not_a_day": ErrorText("{value!r} is not a day like 2027-11-22"),
        "relay_user_not_found": ErrorText("no relay user is called {name!r}", command="see mailtoken relay user list"),
        "relay_user_exists": ErrorText("{name}: there is a relay user with this name already"),
        "unknown_normalization": ErrorText("{value!r} is not one of {known}"),
        "not_a_user_name": ErrorText(
            "{value!r} is not 1 to {longest} printable characters without spaces, ':' and '/'"
        ),
        "wrong_user_password_or_network": ErrorText("wrong user, password or network"),
        "relay_user_without_profile": ErrorText(
            "relay user {user} has no {protocol} profile", command="mailtoken relay user map {user} PROFILE..."
        ),
        "server_not_set": ErrorText(
            "{profile}: server not filled in", command="mailtoken profile set {profile} server=..."
        ),
        "renewed_token_rejected": ErrorText(
            "the mail server rejects a token that was renewed for it just now",
            "test the connection, which says why",
            command="mailtoken test {profile} says why",
        ),
        "rejected_token_not_renewable": ErrorText(
            "the mail server rejects the token and there is nothing to renew it with", "get it again"
        ),
        "rejected_token_not_renewed": ErrorText("the provider could not renew the token just now", "try again later"),
        "network_taken": ErrorText("{network} is a network of relay user {user} already", "take it from them first"),
        "password_or_network_missing": ErrorText("relay user {user} needs a password or a network to be let in by"),
        "network_without_smtp": ErrorText(
            "relay user {user}: a network lets in by SMTP alone, for POP3 and IMAP clients always sign in",
            "give them a password and no networks, or an SMTP setting too",
        ),
        "password_missing": ErrorText(
            "relay user {user}: POP3 and IMAP clients always sign in, from every network",
            "give them a password too, or an SMTP setting alone",
        ),
        "two_of_a_protocol": ErrorText(
            "{first} and {second} are both {protocol} settings: a relay user has one for each protocol"
        ),
        "relay_profiles_missing": ErrorText("there is none", "name the settings to send and receive as"),
        "network_has_zone": ErrorText("{value} has a zone", "name the network alone"),
        "network_is_ipv4": ErrorText("{value} is an IPv4 network in disguise", "write it as one"),
        "network_too_wide": ErrorText("{value} is too wide", "name the clients' own networks, /{widest} or narrower"),
        "network_has_host_bits": ErrorText("{value} has host bits set: is {meant} meant?"),
        "not_a_network": ErrorText("{value!r} is not a network like 10.20.30.0/24 or 2001:db8:1::/48"),
        "not_an_address": ErrorText("{value!r} is not an IP address"),
        # Notifications
        "webhook_unreachable": ErrorText("the webhook can't be reached ({why})"),
        "webhook_ca_file_unreadable": ErrorText("{file} is not a readable file of PEM certificates"),
        "webhook_answered": ErrorText("the webhook answered {status}"),
        "command_did_not_end": ErrorText("the command did not end within {seconds:g} seconds"),
        "command_not_run": ErrorText("the command can't be run ({reason})"),
        "command_failed": ErrorText("the command ended with {exit_code}"),
        # Providers
        "provider_in_use": ErrorText(
            "settings have the provider {provider} already", "take a name that no setting has; nothing was changed"
        ),
        "stored_provider_not_found": ErrorText(
            "no provider in the store is called {provider!r}",
            "those of the configuration file are changed there",
        ),
        "provider_exists": ErrorText("there is a provider called {provider} already", "take another name"),
        "provider_in_file": ErrorText("the configuration file has a provider {provider}", "take another name"),
        "provider_has_settings": ErrorText(
            "{count} settings have the provider {provider}, {first} among them",
            "delete their tokens and give them another provider first",
        ),
        "issuer_has_tokens": ErrorText(
            "another issuer would get the tokens of {count} settings, {first} among them",
            "delete them first, or add a second provider; nothing was changed",
        ),
        "issuer_has_secret": ErrorText(
            "another issuer would get the {secret} of {provider}",
            "upload the one of the new issuer with this change, or remove it; nothing was changed",
        ),
        "provider_kind_unknown": ErrorText("no kind of provider is called {kind!r}; there are: {known}"),
        "other_kind": ErrorText(
            "provider {provider} is of the kind {kind}, not {wanted}", "remove it first, or take another name"
        ),
        "provider_outdated": ErrorText("{provider} has changed since it was looked at", "look again and repeat it"),
        "provider_secret_not_found": ErrorText("provider {provider} has no {secret}"),
        "not_a_provider_field": ErrorText("not a field of a {kind} provider; it has: {known}"),
        "not_a_provider_secret": ErrorText("not a secret of a {kind} provider; it has: {known}"),
        "provider_field_missing": ErrorText("not filled in", "a {kind} provider needs it"),
        "provider_secret_size": ErrorText("not 1 to {longest} characters"),
        "not_words": ErrorText("{value!r} are not words with spaces between them"),
        "private_issuer": ErrorText(
            "{host} is this machine or a private address",
            "take a public address, or have this host's operator add it to private_hosts of [stored_providers]",
        ),
        "provider_without_settings": ErrorText("no setting has the provider {provider!r}", "nothing was changed"),
        "provider_not_configured": ErrorText("there is no provider {provider!r}; there are: {configured}"),
        "stopping": ErrorText("the service is stopping", "try again"),
        "provider_unreachable": ErrorText("provider {provider} can't be reached now: {why}", "try again"),
        "authority_not_usable": ErrorText("provider {provider}: {why}", "correct its {setting}"),
        "flow_not_available": ErrorText(
            "provider {provider} has no {flow} flow",
            "check its issuer, or take another flow: {others}",
            command="check its issuer, or give another one with --flow: {others}",
        ),
        "no_flow_available": ErrorText("provider {provider} has no {flow} flow", "check its issuer"),
        "device_code_refused": ErrorText("provider {provider} gives no device code ({error})", "correct its {setting}"),
        "verification_uri_not_https": ErrorText(
            "provider {provider} sends people to an address without https ({uri})",
            "have the provider's administrator correct its verification_uri",
        ),
        "no_device_code": ErrorText("provider {provider} gave no device code (HTTP {status})", "try again"),
        "redirect_of_another_sign_in": ErrorText(
            "it is not of this sign-in", "open the link to sign in again, and finish there"
        ),
        "redirect_of_another_provider": ErrorText(
            "it is not of the provider the browser was sent to, so it was not used"
        ),
        "redirect_without_code": ErrorText("it has neither a code nor an error", "give the whole address"),
        "not_printable_ascii": ErrorText("it is empty or has characters that are not printable ASCII"),
        "certificate_without_key": ErrorText("it has no private key in PEM beside the certificate"),
        "certificate_key_encrypted": ErrorText("its private key is encrypted", "store it without a passphrase"),
        "certificate_unreadable": ErrorText("its private key or its certificate is not PEM that can be read"),
        "certificate_key_not_rsa": ErrorText("its private key is not an RSA key"),
        "certificate_key_of_another": ErrorText("its private key belongs to another certificate"),
        "tenant_or_issuer": ErrorText("give the tenant, or the issuer of a private authority instead"),
        "not_a_tenant": ErrorText("{value} is not a tenant like contoso.com"),
        "issuer_missing": ErrorText("give the issuer, a URL like {example}"),
        "not_an_issuer": ErrorText("{value} is not a URL like {example}"),
        "issuer_host_unreadable": ErrorText("write its host in ASCII, and its port as a number"),
        "not_a_timeout": ErrorText("{value:g} is not a number of seconds above 0 and up to {longest}"),
        "ca_file_unreadable": ErrorText("{file} is not a readable file of PEM certificates"),
        "not_an_error_code": ErrorText("{value} is not an error code like AADSTS50034 or invalid_grant"),
        "not_an_error_class": ErrorText("{value} is not one of {known}"),
        # The relay
        "service_not_running": ErrorText(
            "the service is not running (no answer at {socket})", command="start it with mailtoken serve"
        ),
        "service_timeout": ErrorText("the service at {socket} does not answer in time", "see its log"),
        "service_reply_unreadable": ErrorText(
            "the reply of the service can't be read", "see that the service and the relay are of the same version"
        ),
        "relay_may_not_use_socket": ErrorText(
            "the relay may not use {socket}", "[socket] in the service's configuration says who may"
        ),
        "stranger_listens": ErrorText(
            "another user than root and this one listens at {socket}, in a directory where everybody can write",
            "name a socket in another directory under [server]",
        ),
        "change_feed_silent": ErrorText("the service at {socket} tells of no changes", "see its log"),
        "relay_cannot_listen": ErrorText(
            "the relay can't listen at {listen}: {reason}",
            "correct [relay] listen, or have the service manager open the socket",
        ),
        "listen_needs_certificate": ErrorText("{listen} needs certificate_file and key_file"),
        "socket_without_scheme": ErrorText("{name!r} is not {schemes}", "name the socket's scheme in its unit"),
        # Mail
        "setting_receives_mail": ErrorText("{profile} receives mail", "name an SMTP setting"),
        "no_setting_sends": ErrorText(
            "no SMTP setting with a server sends for {sender}",
            command="name one with --profile",
            page="fill in an SMTP setting for it",
            api="name a setting as profile",
        ),
        "several_settings_send": ErrorText(
            "several settings send for {sender} ({settings})",
            command="name one with --profile",
            page="name one of them",
            api="name one as profile",
        ),
        "setting_not_named": ErrorText(
            "without a grant for all settings a message needs the name of one",
            command="name it with --profile",
            api="name it as profile",
        ),
        "header_field_too_long": ErrorText("it is longer than {limit} characters", "name fewer addresses in it"),
        "header_field_too_deep": ErrorText("its comments are nested too deeply to be read"),
        "no_recipients": ErrorText(
            "there are no recipients", "name one", command="name one, or use -t with To, Cc or Bcc in the message"
        ),
        "bare_control_in_message": ErrorText("it has a carriage return without a line feed, or a NUL"),
        "message_too_big": ErrorText("larger than {mebibytes} MiB"),
        "mail_field_empty": ErrorText("it is not filled in"),
        "not_for_sasl": ErrorText("{value!r} is empty or has CR, LF, NUL, ^A or broken UTF-8 in it"),
        "access_token_malformed": ErrorText("it is empty or has characters that no access token has"),
        "ca_file_unusable": ErrorText("{file} can't be used: {reason}"),
        "mail_server_unreachable": ErrorText("the mail server can't be reached ({verdict})"),
        "mail_not_sent": ErrorText("the message was not sent ({verdict})"),
        **STORE_ERRORS,
        # HTTP
        "service_at_socket": ErrorText("a service is running at {path} already"),
        "unix_group_not_found": ErrorText("this machine has no group {value!r}"),
        "unix_group_not_allowed": ErrorText("the service may not give its socket to the group {value!r}"),
        "cannot_listen": ErrorText("can't listen at {address} ({reason})"),
        "cannot_answer": ErrorText("can't answer there ({reason})"),
        "nul_character": ErrorText("it has the character NUL"),
        "too_many_listeners": ErrorText("too many listen to changes already", "try again later"),
        "unknown_field": ErrorText("nothing is called so here"),
        "not_acceptable": ErrorText("{reason}"),
        "unexpected_error": ErrorText("unexpected {type}", "the service's log says more"),
        "body_too_large": ErrorText("the body is larger than {limit_kib} KiB"),
        "body_too_large_before_sign_in": ErrorText("the body is larger than {limit_kib} KiB", "sign in first"),
        "body_too_slow": ErrorText("the body did not come in time"),
        "body_incomplete": ErrorText("the body broke off"),
        "unix_user_without_role": ErrorText(
            "{name} is not {role}", "the configuration's [[socket.grants]] says who is"
        ),
        "person_without_role": ErrorText("{name} is not {role}", "an administrator says who is"),
        "enrolling_without_role": ErrorText(
            "{name} has to set up a second factor first", "sign in and set it up on the page of your account"
        ),
        "client_without_role": ErrorText("{name} is not {role}", "a client's key reads access tokens and nothing else"),
        "anonymous_without_role": ErrorText("{name} is not {role}", "show a client's key, or sign in"),
        "token_not_granted": ErrorText("{name} may not read the access token of {profile}"),
        "host_not_one": ErrorText("the request has no Host field, or several"),
        "credentials_missing": ErrorText("show a client's key as a bearer token, or sign in at /sign-in"),
        "key_invalid": ErrorText("the key is not good, or not any more", "ask an administrator for a new one"),
        "request_from_another_site": ErrorText(
            "this request was made by another site's page", "open the page here and do it there"
        ),
        "page_out_of_date": ErrorText("the page this came from is out of date", "load it again and repeat it"),
    }
)


_SUBJECTS = ("field", "profile")
"""The facts that say what an error is about: a field of the input, or a setting."""


def error_text(error: MailtokenError, surface: Surface) -> str:
    """The sentence of an error as this surface says it."""
    return sentence(error.code, facts(error), surface)


def text_at_field(error: MailtokenError, surface: Surface, **shown: object) -> str:
    """The sentence of an error where its field stands beside it, which it does not name again.

    `shown` takes the place of facts.
    """
    beside = {name: fact for name, fact in facts(error).items() if name != "field"}
    return sentence(error.code, {**beside, **shown}, surface)


def fact_text(error: MailtokenError) -> str:
    """The fact of an error without a next step."""
    return sentence(error.code, facts(error), None)


def sentence(code: str, fields: Mapping[str, Any], surface: Surface | None) -> str:
    """The sentence of a code, with the provider's own words about it; without them and without next step if `surface`
    is None.

    A code that has no sentence, or whose fields are those of another version of the service, is its own sentence.

    What it is about stands before it, unless the sentence names it.
    """
    text = ERRORS.get(code)
    if text and "{because}" in text.fact and "reason" in fields:
        fields = {**fields, "because": _because(fields, surface or Surface.API)}
    try:
        sentence = code if text is None else filled(text, fields, surface)
    except KeyError:
        sentence = code
    subject, named = next(((fields[name], name) for name in _SUBJECTS if fields.get(name)), (None, ""))
    is_named = text is not None and f"{{{named}" in text.fact
    if subject is not None and not is_named:
        file = fields.get("configuration_file")
        sentence = f"{file}: {subject}: {sentence}" if file else f"{subject}: {sentence}"
    if "others" in fields and "place" in fields:
        return _of_plan(sentence, fields["place"], fields["others"])
    said = said_text(*(fields.get(name) for name in REPLY_FACTS)) if surface else None
    return f"{sentence.removesuffix('.')}. {said}" if said else sentence


def _because(fields: Mapping[str, Any], surface: Surface) -> str | None:
    """Why a token is Invalid, in the words of its status."""
    reason = fields["reason"]
    status = {
        "token": TokenStatus.INVALID,
        "attention": fields.get("dead", reason),
        "code": fields.get("provider_code"),
    }
    return why({**fields, **status}, surface)


def _of_plan(sentence: str, place: str, others: int) -> str:
    """Why a plan is refused: `sentence` of a place in its file, and how many other refusals there are."""
    more = f" (and {others} more)" if others else ""
    return f"{place}: {sentence}{more}: nothing was changed"


def filled(text: ErrorText, fields: Mapping[str, Any], surface: Surface | None) -> str:
    """The fact and the next step of a row, with the fields in their places."""
    values = {name: _listed(value) if isinstance(value, list | tuple) else value for name, value in fields.items()}
    if "why" in values:
        values["why"] = why_text(str(values["why"]))
    step = text.next_step(surface) if surface else None
    return f"{text.fact}: {step}".format_map(values) if step else text.fact.format_map(values)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values)) or "none"
