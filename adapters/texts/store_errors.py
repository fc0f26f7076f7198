"""The sentences of errors about the configuration, the key and the store, by code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapters.texts.wording import ErrorText

STORE_ERRORS: Mapping[str, ErrorText] = MappingProxyType(
    {
        "store_missing": ErrorText("there is no store here", command="run mailtoken init"),
        "store_without_wal": ErrorText(
            "there is no store in this file, or only in its -wal file, which is missing",
            command="put the -wal file of a copy beside it, restore a backup, or run mailtoken init",
        ),
        "store_exists": ErrorText("there is a store already", "nothing was changed"),
        "store_in_use": ErrorText("there is a store already", "name another in [store]; nothing was changed"),
        "not_a_backup": ErrorText("it is no backup of Mailtoken", "nothing was changed"),
        "backup_is_a_store": ErrorText(
            "it is a copy of a store and no backup, and may lack the newest changes, which are in its -wal file",
            "put both in the store's place, or restore a backup; nothing was changed",
            command="put both in the store's place, or restore what mailtoken backup made; nothing was changed",
        ),
        "backup_is_a_stream": ErrorText(
            "a backup is read twice, and this can be read once only", "save it to a file first"
        ),
        "backup_damaged": ErrorText("the backup was cut or changed", "use another one; nothing was changed"),
        "backup_row_damaged": ErrorText(
            "the {kind} {number} of {subject} does not open in the backup", "use another one; nothing was changed"
        ),
        "backup_newer": ErrorText(
            "a newer program made this backup: it has version {version} and this program knows versions up to {known}",
            "use that program, or a newer one; nothing was changed",
        ),
        "backup_of_another_key": ErrorText(
            "this key does not open this backup", "restore the key of its store; nothing was changed"
        ),
        "file_exists": ErrorText("there is a file already", "name another; nothing was changed"),
        "on_hold": ErrorText(
            "the store was restored from a backup and is on hold, so no provider is asked",
            "an administrator resumes",
            command="mailtoken resume lifts the hold",
        ),
        "log_behind": ErrorText(
            "the log is shorter than this service has seen it, so the store is on hold and no provider is asked",
            "an administrator resumes",
            command="put the newer store back, or lift the hold with mailtoken resume",
        ),
        "log_differs": ErrorText(
            "the log is not the one that this service has seen, so the store is on hold and no provider is asked",
            "an administrator resumes",
            command="put the right store back, or lift the hold with mailtoken resume --because TEXT",
        ),
        "clients_not_proven": ErrorText(
            "the store is on hold and lacks the last change of a client or relay user that this service has seen, so"
            " none of them gets a token",
            "an administrator resumes",
            command="put the newer store back, or lift the hold with mailtoken resume",
        ),
        "reason_wanted": ErrorText(
            "the log is not the one that this service has seen: say why it is to be used",
            command="the log is not the one that this service has seen: say with --because TEXT why it is to be used",
        ),
        "not_on_hold": ErrorText("the store is not on hold", "there is nothing to resume"),
        "row_altered": ErrorText(
            "{table} {name}: its row was altered by something else than this program, so it is not used",
            "have an administrator verify the log and make the rows from it again; nothing was changed",
            command="mailtoken audit verify names the rows, and mailtoken audit rebuild makes them from the log again",
        ),
        "store_newer": ErrorText(
            "this store has version {version} and this program knows versions up to {known}",
            "use the program that wrote it, or a newer one",
        ),
        "store_older": ErrorText(
            "this store has version {version} and this program needs version {needed}",
            command="run mailtoken upgrade",
        ),
        "integrity_key_missing": ErrorText(
            "the store has no integrity key for {purpose}", "restore a backup; nothing was changed"
        ),
        "integrity_key_damaged": ErrorText(
            "the integrity key {number} for {purpose} does not open",
            "it was damaged, swapped or sealed with another key: restore a backup; nothing was changed",
        ),
        "chain_head_altered": ErrorText(
            "the head of the log was altered by something else than this program, so nothing is stored behind it",
            "restore a backup",
            command="mailtoken audit verify shows what was altered; restore a backup",
        ),
        "log_altered": ErrorText(
            "the log was altered, so no rows are made from it",
            "restore a backup; nothing was changed",
            command="mailtoken audit verify names each event; restore a backup; nothing was changed",
        ),
        "unkeyed_chain_not_whole": ErrorText(
            "the log was altered: the event at {position} does not fit the hash chain",
            "restore a backup",
        ),
        "chain_unkeyed_again": ErrorText(
            "this node has seen the keyed hash chain of this store, and the store has an unkeyed one now",
            "if you put an older copy back yourself, remove {path}; nothing was changed",
        ),
        "store_url_malformed": ErrorText("[store] url is not an address PostgreSQL understands"),
        "schema_missing": ErrorText(
            "the database has no schema that this role may use", "create it, or name another in the role's search_path"
        ),
        "schema_name_not_plain": ErrorText(
            "the schema {schema} has a name that needs quotes",
            "use one of small letters, digits and underscores",
        ),
        "schema_not_writable": ErrorText(
            "this role may not create tables in the schema {schema}",
            "grant it, or give the role a schema of its own: CREATE SCHEMA AUTHORIZATION; nothing was changed",
        ),
        "table_of_another_program": ErrorText(
            "there is a table {table} of another program", "give the store a place of its own; nothing was changed"
        ),
        "store_unreachable": ErrorText("the store does not answer: {reason}"),
        "service_running": ErrorText("a service is running on {directory} already", "stop it first"),
        "initialised_already": ErrorText("{directory} is initialised already", "nothing was changed"),
        "postgres_package_missing": ErrorText(
            "PostgreSQL needs one more package", command="pip install 'mailtoken[postgres]'"
        ),
        "changed_meanwhile": ErrorText("somebody else changed this at the same moment", "look again and repeat it"),
        "aggregate_not_found": ErrorText("there is no {kind} with the id {id}"),
        "sealed_row_missing": ErrorText("the {kind} {number} of {subject} is missing from the vault"),
        "sealed_value_damaged": ErrorText(
            "the {kind} {number} of {subject} does not open", "it was damaged, swapped or sealed with another key"
        ),
        "key_is_no_file": ErrorText(
            "the key is a credential or a variable of the environment, which this program can't change",
            "stop the service, write the key into the key file of [store] with mode 0600, take the credential or the"
            " variable away, rotate, and make a credential of that file's content; nothing was changed",
        ),
        "key_lost": ErrorText("there is a store but no key at {path}", "restore the key; a new one would not open it"),
        "key_missing": ErrorText("there is no key at {path}", "restore it from your backup; nothing opens without it"),
        "key_malformed": ErrorText(
            "{source} does not hold a key",
            "32 bytes in base64",
            command="32 bytes in base64, as mailtoken init writes it",
        ),
        "key_readable_by_others": ErrorText("the key {path} can be read by others", "chmod 600 {path}"),
        "key_of_another_store": ErrorText(
            "this key does not open this store",
            "restore the key that was made with it",
            command="restore the key that mailtoken init made with it",
        ),
        "no_room_for_backup": ErrorText(
            "there is no room for the backup {path}", "make room for {mebibytes} MiB; nothing was changed"
        ),
        "backup_not_named": ErrorText(
            "a PostgreSQL database has no file that could be copied beside it",
            command="make a backup with pg_dump, then name it: mailtoken upgrade --backup NAME",
        ),
        "certificate_not_read": ErrorText("{certificate_file} with {key_file} can't be used: {reason}"),
        "certificate_not_of_key": ErrorText(
            "{certificate_file} with {key_file} can't be used: they are not PEM, or don't belong together"
        ),
        "storage_failing": ErrorText("storage failing: {reason}"),
        "configuration_unreadable": ErrorText("can't be read ({reason})"),
        "not_toml": ErrorText("not TOML: {reason}"),
        "unknown_key": ErrorText("unknown key; there are: {known}"),
        "key_misspelt": ErrorText("unknown key; did you mean {close}?"),
        "value_not_accepted": ErrorText("{reason}"),
        "file_unreadable": ErrorText("{file} can't be read ({reason})"),
        "file_not_text": ErrorText("{file} is not text in UTF-8", "save it as UTF-8"),
        "pkcs12_unreadable": ErrorText(
            "{file} is PKCS#12 and can't be opened",
            "put its password into a file and name it in certificate_password_file",
        ),
        "password_readable_by_others": ErrorText(
            "the database's password in {path} can be read by others", "chmod o= {path}"
        ),
        "path_of_another": ErrorText("{path} is the path of {other} too", "name another"),
        "not_a_time": ErrorText("{value!r} is not like 30m, 1h or 1d"),
        "not_a_checkpoint": ErrorText(
            "it is no checkpoint", command="a checkpoint is what mailtoken audit checkpoint writes"
        ),
        "checkpoint_not_signed": ErrorText(
            "no key of this log has signed it: it was changed, or is no checkpoint", "compare with another copy of it"
        ),
        "checkpoint_of_another_log": ErrorText(
            "{path} is a checkpoint of another log, {origin}", "name one of this log"
        ),
        "checkpoint_newer": ErrorText(
            "{path} is a checkpoint of {size} events, and this log has {events}",
            "the log was cut, or an older copy of it was put back: find the newer one",
        ),
        "event_not_found": ErrorText("there is no event {number}: the log has {events}"),
        "path_is_no_socket": ErrorText("{path} is there and is no socket", "name another"),
        "path_is_no_directory": ErrorText("{path} is there and is no directory", "name another"),
        "path_is_no_database": ErrorText("{path} is there and is no database", "name another"),
        "callback_not_https": ErrorText("a callback is an https:// address"),
        "limit_of_no_group": ErrorText("machines limits the group {group!r}, which groups does not have"),
        "limit_without_pattern": ErrorText("it has no pattern; leave it out for every machine"),
        "sign_in_without_registration": ErrorText("sign-in needs provider, or issuer and client_id"),
        "not_an_origin": ErrorText("it is an address like https://mailtoken.contoso.com, without a path"),
        "certificate_or_key_missing": ErrorText("TLS needs certificate_file and key_file"),
        "not_an_address_to_listen_at": ErrorText("listen: {value!r} is not like 127.0.0.1:8480"),
        "listens_without_tls": ErrorText("listen: without certificate_file and key_file it must be a loopback address"),
        "not_a_url_to_listen_at": ErrorText(
            "{value!r} is not like smtp://127.0.0.1:2587; there are smtp, pop3, imap, each also with s"
        ),
        "ciphers_need_certificate": ErrorText('ciphers = "legacy" needs certificate_file and key_file under [relay]'),
        "service_account_not_google": ErrorText("only kind google has service_account_file"),
        "client_assertion_for_google": ErrorText("kind google takes service_account_file, not client_assertion_file"),
        "not_a_service_account": ErrorText("it is not the JSON key of a Google service account"),
        "client_assertion_missing": ErrorText("{file} can't be read, or has no token"),
        "proxy_not_supported": ErrorText(
            "{scheme!r} is not a kind of proxy that is supported", "use http, https, socks5 or socks5h"
        ),
        "issuer_not_https": ErrorText("an issuer is an https:// address"),
        "not_a_host": ErrorText("{value!r} is not the name or address of a host", "leave out https://, port and path"),
        "oidc_without_issuer": ErrorText("kind oidc needs issuer"),
        "microsoft_without_tenant": ErrorText("kind microsoft needs tenant, or issuer for a private authority"),
        "mail_profile_or_mail_to_missing": ErrorText("mail needs mail_profile and mail_to"),
    }
)
