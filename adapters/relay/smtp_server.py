"""The relay's SMTP side: submission (RFC 6409) for clients with a relay user's password, or from its network.

Each command is passed on to the mail server of the profile and the server's reply is passed back, so the client takes a
message for sent only after that server has accepted it. A message is passed on in pieces while it arrives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import ClassVar

import structlog

from adapters.mail import sasl_server
from adapters.mail.line_connection import BareControl, TooLong
from adapters.mail.sasl_server import (
    OTHER_IDENTITY,
    RESPONSE_LIMIT_OCTETS,
    Credentials,
    MalformedCredentials,
    OtherIdentity,
)
from adapters.relay.admission import Admission
from adapters.relay.connection_pool import Lease
from adapters.relay.listener import ClientConnection, SessionRevoked
from adapters.relay.message_relay import (
    MESSAGE_SECONDS,
    MessageRelay,
    SMTPSettings,
    Step,
    no_transaction,
    transaction_lost,
)
from adapters.relay.refusals import Cause
from adapters.relay.reply_codes import AT_AUTH
from adapters.relay.reply_texts import reply_text
from adapters.relay.smtp_commands import (
    CONTROL,
    MAIL_FROM,
    RCPT_TO,
    SMTPRefusal,
    answer,
    check_path,
    mail_passed_on,
    parsed,
    rcpt_passed_on,
    size_of,
    split_command,
    too_big,
)
from domain.catalogue import Protocol
from domain.errors import MailtokenError, NotPermitted

log = structlog.get_logger("mailtoken")

# RFC 5321 section 4.5.3.1.4 sets 512 octets; extensions raise the limit (RFC 6531 section 3.3).
_COMMAND_LIMIT_OCTETS = 2048
_REPLY_SECONDS = 60.0
_MISTAKES = 20
_WRONG_PASSWORDS = 3


class _QuitAtPrompt(Exception):
    """The client sent QUIT in reply to a prompt of AUTH, as some machines do."""


_BUSY = nullcontext()


class SMTPRelay(SMTPSettings):
    """Serves SMTP clients."""

    async def serve(self, client: ClientConnection) -> None:
        """Serve a client to the end of its session."""
        await _Session(self, client).run()

    def refusal(self, why: str) -> bytes:
        """The reply in place of a greeting."""
        return answer(421, "4.7.0", f"{self.host} {why}")


class _Session(MessageRelay):
    """The session of one client: its greeting, its sign-in and its commands."""

    def __init__(self, settings: SMTPSettings, client: ClientConnection) -> None:
        super().__init__(settings, client)
        self._needs_smtputf8 = False
        self._read_ahead: bytes | None = None
        self._mistakes = 0
        self._wrong_passwords = 0
        self._is_over = False

    async def run(self) -> None:
        """Greet the client, and carry out its commands until the session ends."""
        self._connection.write(answer(220, "", f"{self._settings.host} ESMTP Mailtoken"))
        try:
            while not self._is_over:
                await self._obey(await self._next_command())
            if self._connection.has_input:
                await self._connection.part()
        except (BareControl, TooLong) as error:
            cause = Cause.BARE_LINE_END if isinstance(error, BareControl) else Cause.LINE_TOO_LONG
            self._client.refuse(cause, str(error))
            self._connection.write(answer(521, "5.5.2", f"{error}: closing"))
            await self._part()
        except TimeoutError:
            self._connection.write(answer(421, "4.4.2", f"{self._settings.host} no command came in time: closing"))
        except SessionRevoked:
            self._connection.write(
                answer(421, "4.3.2", f"{self._settings.host} the relay ends this session: connect again")
            )
        finally:
            self._let_go()

    async def _part(self) -> None:
        """End the session; the rest of a message is read, since its client reads no reply before it has sent all."""
        if self._is_receiving:
            await self._connection.part(2 * self._settings.message_size, MESSAGE_SECONDS)
        else:
            await self._connection.part()

    async def _next_command(self) -> bytes:
        line, self._read_ahead = self._read_ahead, None
        if line is None:
            line = self._connection.ready_line(RESPONSE_LIMIT_OCTETS)
        if line is None:
            await self._connection.drain(_REPLY_SECONDS)
            with _BUSY if self._is_in_transaction else self._client.idle():
                line = await self._connection.line(RESPONSE_LIMIT_OCTETS, self._settings.idle_seconds)
        return line

    async def _obey(self, line: bytes) -> None:
        command = None
        try:
            if CONTROL.search(line):
                raise SMTPRefusal(500, "5.5.2", "a control character in a command")
            verb, argument = split_command(line)
            command = self._commands.get(verb)
            self._note_command(verb, line)
            if len(line) > _COMMAND_LIMIT_OCTETS and verb != b"AUTH":
                raise SMTPRefusal(500, "5.5.2", "the command is too long")
            if command is None:
                raise SMTPRefusal(500, "5.5.2", "there is no such command")
            await command(self, argument)
        except SMTPRefusal as refused:
            self._connection.write(refused.answer)
            self._note_refused(refused, is_noted=command is not None)
            self._mistakes += refused.is_mistake
            if self._mistakes >= _MISTAKES:
                self._connection.write(answer(421, "4.7.0", "too many mistakes: closing"))
                self._is_over = True

    def _note_command(self, verb: bytes, line: bytes) -> None:
        """Note a command for the record of a refusal; other lines may hold a password or content."""
        if verb == b"AUTH":
            self._client.note(b" ".join(line.split()[:2]))
        elif verb in self._commands:
            self._client.note(line)

    def _note_refused(self, refused: SMTPRefusal, *, is_noted: bool = True) -> None:
        """Log and record a refusal; `is_noted` is whether the last noted command is the refused one."""
        if refused.is_logged:
            self._client.record(refused.cause, str(refused))
        else:
            self._client.refuse(refused.cause, f"{self._client.last_command}: {refused}" if is_noted else str(refused))

    # Greeting and sign-in

    async def _ehlo(self, _: bytes) -> None:
        await self._reset()
        capabilities = self._settings.capabilities
        own = capabilities.of(self._admission.login.address) if self._admission else capabilities.offered
        lines = [self._settings.host, *own]
        if self._client.may_start_tls:
            lines.append("STARTTLS")
        if self._client.may_sign_in:
            lines.append("AUTH PLAIN LOGIN")
        separators = "-" * (len(lines) - 1) + " "
        self._connection.write(
            "".join(f"250{sep}{line}\r\n" for sep, line in zip(separators, lines, strict=True)).encode()
        )

    async def _helo(self, _: bytes) -> None:
        await self._reset()
        self._connection.write(answer(250, "", self._settings.host))

    async def _starttls(self, argument: bytes) -> None:
        if argument:
            raise SMTPRefusal(501, "5.5.4", "STARTTLS has no parameters")
        if not self._client.may_start_tls:
            raise SMTPRefusal(503 if self._connection.is_secure else 502, "5.5.1", "TLS is not offered, or has begun")
        self._let_go()
        self._admission = None
        self._connection.write(answer(220, "2.0.0", "begin TLS"))
        await self._client.start_tls()

    async def _auth(self, argument: bytes) -> None:
        if self._admission or self._is_in_transaction:
            raise SMTPRefusal(503, "5.5.1", "you are signed in already")
        if not self._client.may_sign_in:
            raise SMTPRefusal(
                538, "5.7.11", "begin TLS first: no password in clear text from this address", Cause.NOT_ENCRYPTED
            )
        mechanism, response = split_command(argument)
        try:
            given = await sasl_server.by_mechanism(mechanism, response, self._response)
        except OtherIdentity:
            raise SMTPRefusal(535, "5.7.8", OTHER_IDENTITY, Cause.OTHER_IDENTITY) from None
        except MalformedCredentials:
            raise SMTPRefusal(501, "5.5.2", "the response is not in the form that the mechanism requires") from None
        except _QuitAtPrompt:
            return await self._quit(b"")
        if given is None:
            raise SMTPRefusal(504, "5.5.4", "only AUTH PLAIN and AUTH LOGIN are supported")
        return await self._sign_in(given)

    async def _response(self, prompt: bytes) -> bytes:
        """The client's line after a prompt."""
        self._connection.write(b"334 " + prompt + b"\r\n")
        line = (await self._connection.line(RESPONSE_LIMIT_OCTETS, self._settings.idle_seconds)).strip(b" \t")
        if line == b"*":
            raise SMTPRefusal(501, "5.7.0", "sign-in cancelled")
        if line.upper() == b"QUIT":
            raise _QuitAtPrompt
        return line

    async def _sign_in(self, given: Credentials) -> None:
        self._client.user = given.user
        try:
            admission_client = self._settings.admission_client
            admission = await admission_client.admit(Protocol.SMTP, self._client.address, given.user, given.password)
            self._client.admission = admission
        except NotPermitted:
            self._note_wrong_password()
            raise SMTPRefusal(535, "5.7.8", "user or password is wrong", Cause.WRONG_PASSWORD, is_logged=True) from None
        except MailtokenError as error:
            raise SMTPRefusal(454, "4.7.0", reply_text(error), Cause.SERVICE) from None
        self._client.user, self._client.profile = admission.user, admission.profile
        with self._answered(AT_AUTH, admission):
            self._admission = await self._tried(admission)
        self._client.mark_signed_in()
        self._connection.write(answer(235, "2.7.0", "welcome"))

    async def _tried(self, admission: Admission) -> Admission:
        """Sign in to the mail server; returns the admission with the token that it accepted."""
        pool = self._settings.pool
        if pool.vouches_for(admission):
            return admission
        # A client that its network had admitted may have a session already.
        self._let_go()
        self._lease = await pool.lease(admission, self._who(admission))
        self._lease.is_kept = True
        taken = self._lease.admission
        self._message_over()
        return taken

    def _note_wrong_password(self) -> None:
        log.warning("sign_in_refused", address=self._client.address, protocol=Protocol.SMTP)
        self._wrong_passwords += 1
        self._is_over = self._wrong_passwords >= _WRONG_PASSWORDS

    # Messages

    async def _mail(self, argument: bytes) -> None:
        if self._is_in_transaction:
            raise SMTPRefusal(503, "5.5.1", "a message has begun already: finish it first")
        self._is_lost = False
        path, parameters = parsed(MAIL_FROM, argument)
        check_path(path, b"SMTPUTF8" in parameters)
        if size_of(parameters) > self._settings.message_size:
            raise too_big(self._settings.message_size)
        lease = await self._lent()
        path = lease.admission.sender.encode() if lease.admission.sender else path
        try:
            command = b" ".join((b"MAIL FROM:<" + path + b">", *mail_passed_on(parameters, lease.session.extensions)))
            self._needs_smtputf8 = b"SMTPUTF8" in parameters
            await self._begin_message(lease)
            await self._relay_group(lease, [Step("mail", command), *self._steps_behind(lease)])
        finally:
            if not self._is_in_transaction:
                self._message_over()

    async def _rcpt(self, argument: bytes) -> None:
        lease = self._transaction()
        await self._relay_group(lease, [self._rcpt_step(argument, lease), *self._steps_behind(lease)])

    async def _data(self, argument: bytes) -> None:
        lease = self._transaction()
        await self._relay_group(lease, [self._data_step(argument, lease)])

    async def _rset(self, _: bytes) -> None:
        await self._reset()
        self._connection.write(answer(250, "2.0.0", "reset"))

    async def _noop(self, _: bytes) -> None:
        if self._lease is not None and self._is_in_transaction:
            await self._relay_group(self._lease, [Step("noop", b"NOOP")])
        else:
            self._connection.write(answer(250, "2.0.0", "still here"))

    async def _vrfy(self, argument: bytes) -> None:
        is_passed_on = argument.isascii() and b"\t" not in argument
        if self._lease is not None and self._is_in_transaction and is_passed_on:
            await self._relay_group(self._lease, [Step("vrfy", b"VRFY " + argument)])
        else:
            self._connection.write(answer(252, "2.5.0", "not verified; send the message, and the mail server will say"))

    async def _help(self, _: bytes) -> None:
        self._connection.write(answer(214, "2.0.0", "this is a relay for submission (RFC 6409)"))

    async def _quit(self, _: bytes) -> None:
        self._connection.write(answer(221, "2.0.0", f"{self._settings.host} goodbye"))
        self._is_over = True

    def _transaction(self) -> Lease:
        if self._lease is None or not self._is_in_transaction:
            raise transaction_lost() if self._is_lost else no_transaction()
        return self._lease

    def _rcpt_step(self, argument: bytes, lease: Lease) -> Step:
        path, parameters = parsed(RCPT_TO, argument)
        check_path(path, self._needs_smtputf8)
        passed = rcpt_passed_on(parameters, lease.session.extensions)
        return Step("rcpt", b" ".join((b"RCPT TO:<" + path + b">", *passed)))

    def _data_step(self, argument: bytes, _: Lease) -> Step:
        if argument:
            raise SMTPRefusal(501, "5.5.4", "DATA has no parameters")
        return Step("data", b"DATA")

    def _steps_behind(self, lease: Lease) -> list[Step]:
        """The commands that the client has pipelined, as far as they may be sent in one group (RFC 2920)."""
        steps: list[Step] = []
        while "PIPELINING" in lease.session.extensions and (not steps or steps[-1].verb != "data"):
            line = self._connection.ready_line(_COMMAND_LIMIT_OCTETS)
            if line is None:
                break
            verb, argument = split_command(line)
            step_of = {b"RCPT": self._rcpt_step, b"DATA": self._data_step}.get(verb)
            if step_of is None or CONTROL.search(line):
                self._read_ahead = line
                break
            self._note_command(verb, line)
            try:
                steps.append(step_of(argument, lease))
            except SMTPRefusal as refused:
                self._note_refused(refused)
                steps.append(Step(verb.decode().lower(), answer=refused.answer))
        return steps

    _commands: ClassVar[Mapping[bytes, Callable[[_Session, bytes], Awaitable[None]]]] = {
        b"EHLO": _ehlo,
        b"HELO": _helo,
        b"STARTTLS": _starttls,
        b"AUTH": _auth,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"RSET": _rset,
        b"NOOP": _noop,
        b"VRFY": _vrfy,
        b"HELP": _help,
        b"QUIT": _quit,
    }
