"""The relay's SMTP side: submission (RFC 6409) for clients with a relay user's password, or from its network.

Each command goes on to the mail server of the profile, and its reply comes back; nothing is said to be sent before
that server has said so. A message streams through in pieces.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from time import monotonic
from typing import ClassVar

import structlog

from adapters.mail.connection import Garbled
from adapters.mail.smtp import ACCEPTANCE_SECONDS
from adapters.mail.transcript import Ended, explain
from adapters.relay import credentials
from adapters.relay.budget import Crowded
from adapters.relay.capabilities import Capabilities
from adapters.relay.credentials import RESPONSE_LIMIT_OCTETS, Credentials, MalformedCredentials
from adapters.relay.door import Admission, Door
from adapters.relay.lines import BareControl, TooLong
from adapters.relay.listener import Client, Dismissed
from adapters.relay.message import MessageScanner
from adapters.relay.pool import Lease, Pool
from adapters.relay.smtp_syntax import (
    CONTROL,
    MAIL_FROM,
    RCPT_TO,
    NotObeyed,
    answer,
    check_path,
    parsed,
    passed_on,
    size_of,
    too_big,
)
from adapters.relay.smtp_upstream import Refusal, Reply
from adapters.relay.upstream import where
from domain.catalogue import Protocol
from domain.errors import MailtokenError, NotPermitted
from domain.outcomes import Fault

log = structlog.get_logger("mailtoken")

# RFC 5321 section 4.5.3.1.4 has 512; extensions add to it (RFC 6531 section 3.3).
_COMMAND_LIMIT_OCTETS = 2048
_REPLY_SECONDS = 60.0
_MISTAKES = 20
_WRONG_PASSWORDS = 3
# A message has so long to begin with, and then a second more for each of so many octets.
_DATA_SECONDS = 300.0
_DATA_OCTETS_PER_SECOND = 512


@dataclass(frozen=True)
class _Answers:
    """The codes for a mail server that does not let us in: `denied` if it does not want the token, else `later`."""

    denied: tuple[int, str]
    later: int

    def to(self, ended: Ended) -> tuple[int, str]:
        """Code and enhanced code for this end; the latter is the server's own if that is of the same class."""
        if isinstance(ended, Refusal) and ended.code == 432:
            return 432, "4.3.2"
        is_denial = ended.fault in (Fault.TOKEN, Fault.MAILBOX, Fault.PERMISSION)
        code, enhanced = self.denied if is_denial else (self.later, _LATER.get(ended.fault, "4.3.0"))
        if isinstance(ended, Refusal) and ended.enhanced[:1] == enhanced[:1]:
            enhanced = ended.enhanced
        return code, enhanced


_LATER: Mapping[Fault, str] = {Fault.CERTIFICATE: "4.7.5", Fault.CONFIGURATION: "4.3.5", Fault.NETWORK: "4.4.1"}
_AT_AUTH = _Answers(denied=(535, "5.7.8"), later=454)
_AT_MAIL = _Answers(denied=(451, "4.7.0"), later=451)


@dataclass(frozen=True)
class _Step:
    """One command of a group, as it goes to the mail server; or the answer to it, if it does not go there."""

    verb: str
    command: bytes = b""
    answer: bytes = b""


class _QuitAtPrompt(Exception):
    """The client says QUIT where it is asked for a password: some machines do."""


class _Stale(Exception):
    """A session that was used before has ended, and this message had not begun in it."""


_BUSY = nullcontext()


@dataclass(frozen=True)
class SMTPRelay:
    """SMTP for every client. `idle_seconds` is how long one may say nothing, `message_size` is in octets.

    `acceptance_seconds` is how long a mail server may take for its word after the final dot.
    """

    door: Door
    pool: Pool
    capabilities: Capabilities
    idle_seconds: float
    message_size: int
    acceptance_seconds: float = ACCEPTANCE_SECONDS
    host: str = field(default_factory=socket.gethostname)

    async def converse(self, client: Client) -> None:
        """Speak with a client until it goes."""
        await _Session(self, client).run()

    def refusal(self, why: str) -> bytes:
        """What a client is told in place of a greeting."""
        return answer(421, "4.7.0", f"{self.host} {why}")


class _Session:
    """One client."""

    def __init__(self, relay: SMTPRelay, client: Client) -> None:
        self._relay = relay
        self._client = client
        self._wire = client.wire
        self._admission: Admission | None = None
        self._lease: Lease | None = None
        self._is_in_transaction = False
        self._needs_smtputf8 = False
        self._read_ahead: bytes | None = None
        self._mistakes = 0
        self._wrong_passwords = 0
        self._is_over = False

    async def run(self) -> None:
        """Greet, and obey until the end."""
        self._wire.write(answer(220, "", f"{self._relay.host} ESMTP Mailtoken"))
        try:
            while not self._is_over:
                await self._obey(await self._next_command())
            if self._wire.has_input:
                await self._wire.part()
        except (BareControl, TooLong) as error:
            self._wire.write(answer(521, "5.5.2", f"{error}: closing"))
            await self._wire.part()
        except TimeoutError:
            self._wire.write(answer(421, "4.4.2", f"{self._relay.host} nothing came for too long: closing"))
        except Dismissed:
            self._wire.write(answer(421, "4.3.2", f"{self._relay.host} the relay ends this session: connect again"))
        finally:
            self._let_go()

    async def _next_command(self) -> bytes:
        line, self._read_ahead = self._read_ahead, None
        if line is None:
            line = self._wire.ready_line(RESPONSE_LIMIT_OCTETS)
        if line is None:
            await self._wire.drain(_REPLY_SECONDS)
            with _BUSY if self._is_in_transaction else self._client.idle():
                line = await self._wire.line(RESPONSE_LIMIT_OCTETS, self._relay.idle_seconds)
        return line

    async def _obey(self, line: bytes) -> None:
        try:
            verb, _, argument = line.partition(b" ")
            command = self._commands.get(verb.upper())
            if CONTROL.search(line):
                raise NotObeyed(500, "5.5.2", "a control character in a command")
            if len(line) > _COMMAND_LIMIT_OCTETS and verb.upper() != b"AUTH":
                raise NotObeyed(500, "5.5.2", "the command is too long")
            if command is None:
                raise NotObeyed(500, "5.5.2", "there is no such command")
            await command(self, argument)
        except NotObeyed as refused:
            self._wire.write(refused.answer)
            self._mistakes += refused.is_mistake
            if self._mistakes >= _MISTAKES:
                self._wire.write(answer(421, "4.7.0", "too many mistakes: closing"))
                self._is_over = True

    # Who it is

    async def _ehlo(self, _: bytes) -> None:
        await self._reset()
        lines = [self._relay.host, *self._relay.capabilities.offered]
        if self._client.may_start_tls:
            lines.append("STARTTLS")
        if self._client.may_sign_in:
            lines.append("AUTH PLAIN LOGIN")
        separators = "-" * (len(lines) - 1) + " "
        self._wire.write("".join(f"250{sep}{line}\r\n" for sep, line in zip(separators, lines, strict=True)).encode())

    async def _helo(self, _: bytes) -> None:
        await self._reset()
        self._wire.write(answer(250, "", self._relay.host))

    async def _starttls(self, argument: bytes) -> None:
        if argument:
            raise NotObeyed(501, "5.5.4", "STARTTLS has no parameters")
        if not self._client.may_start_tls:
            raise NotObeyed(503 if self._wire.is_secure else 502, "5.5.1", "no TLS to begin")
        self._let_go()
        self._admission = None
        self._wire.write(answer(220, "2.0.0", "begin TLS"))
        await self._client.start_tls()

    async def _auth(self, argument: bytes) -> None:
        if self._admission or self._is_in_transaction:
            raise NotObeyed(503, "5.5.1", "you are signed in already")
        if not self._client.may_sign_in:
            raise NotObeyed(538, "5.7.11", "begin TLS first: no password in clear text from this address")
        mechanism, _, response = argument.partition(b" ")
        try:
            given = await credentials.by_mechanism(mechanism, response.strip(), self._response)
        except MalformedCredentials:
            raise NotObeyed(501, "5.5.2", "this is not what the mechanism asks for") from None
        except _QuitAtPrompt:
            return await self._quit(b"")
        if given is None:
            raise NotObeyed(504, "5.5.4", "there are AUTH PLAIN and AUTH LOGIN")
        return await self._sign_in(given)

    async def _response(self, prompt: bytes) -> bytes:
        """The client's line after a prompt."""
        self._wire.write(b"334 " + prompt + b"\r\n")
        line = await self._wire.line(RESPONSE_LIMIT_OCTETS, self._relay.idle_seconds)
        if line == b"*":
            raise NotObeyed(501, "5.7.0", "sign-in cancelled")
        if line.upper() == b"QUIT":
            raise _QuitAtPrompt
        return line

    async def _sign_in(self, given: Credentials) -> None:
        try:
            door = self._relay.door
            admission = await door.admit(Protocol.SMTP, self._client.address, given.user, given.password)
            self._client.admission = admission
        except NotPermitted:
            self._note_wrong_password()
            raise NotObeyed(535, "5.7.8", "user or password is wrong") from None
        except MailtokenError as error:
            raise NotObeyed(454, "4.7.0", str(error)) from None
        with self._answered(_AT_AUTH, admission):
            self._admission = await self._tried(admission)
        self._client.signed_in()
        self._wire.write(answer(235, "2.7.0", "welcome"))

    async def _tried(self, admission: Admission) -> Admission:
        """See that the mail server takes the token; returns the admission with the one that it took."""
        pool = self._relay.pool
        if pool.vouches_for(admission):
            return admission
        self._lease = await pool.lease(admission, self._who(admission))
        self._lease.may_be_stale = True
        taken = self._lease.admission
        self._message_over()
        return taken

    def _note_wrong_password(self) -> None:
        log.warning("wrong user or password", address=self._client.address, protocol=Protocol.SMTP)
        self._wrong_passwords += 1
        self._is_over = self._wrong_passwords >= _WRONG_PASSWORDS

    # A message

    async def _mail(self, argument: bytes) -> None:
        if self._is_in_transaction:
            raise NotObeyed(503, "5.5.1", "one message at a time")
        path, parameters = parsed(MAIL_FROM, argument)
        check_path(path, b"SMTPUTF8" in parameters)
        if size_of(parameters) > self._relay.message_size:
            raise too_big(self._relay.message_size)
        lease = await self._lent()
        try:
            command = b" ".join((b"MAIL FROM:<" + path + b">", *passed_on(parameters, lease.session.extensions)))
            self._needs_smtputf8 = b"SMTPUTF8" in parameters
            await self._begin_message(lease)
            steps = [_Step("mail", command), *self._steps_behind(lease)]
            try:
                await self._relay_group(lease, steps)
            except _Stale:
                fresh = await self._lent()
                fresh.may_be_stale = False
                await self._relay_group(fresh, steps)
        finally:
            if not self._is_in_transaction:
                self._message_over()

    async def _rcpt(self, argument: bytes) -> None:
        lease = self._transaction()
        await self._relay_group(lease, [self._rcpt_step(argument), *self._steps_behind(lease)])

    async def _data(self, argument: bytes) -> None:
        await self._relay_group(self._transaction(), [self._data_step(argument)])

    async def _rset(self, _: bytes) -> None:
        await self._reset()
        self._wire.write(answer(250, "2.0.0", "reset"))

    async def _noop(self, _: bytes) -> None:
        if self._lease is not None and self._is_in_transaction:
            await self._relay_group(self._lease, [_Step("noop", b"NOOP")])
        else:
            self._wire.write(answer(250, "2.0.0", "still here"))

    async def _vrfy(self, argument: bytes) -> None:
        if self._lease is not None and self._is_in_transaction and argument.isascii():
            await self._relay_group(self._lease, [_Step("vrfy", b"VRFY " + argument)])
        else:
            self._wire.write(answer(252, "2.5.0", "not verified; send the message, and the mail server will say"))

    async def _quit(self, _: bytes) -> None:
        self._wire.write(answer(221, "2.0.0", f"{self._relay.host} goodbye"))
        self._is_over = True

    def _transaction(self) -> Lease:
        if self._lease is None or not self._is_in_transaction:
            raise _no_transaction()
        return self._lease

    def _rcpt_step(self, argument: bytes) -> _Step:
        path, parameters = parsed(RCPT_TO, argument)
        check_path(path, self._needs_smtputf8)
        if parameters:
            raise NotObeyed(555, "5.5.4", "RCPT has a parameter that was not offered")
        return _Step("rcpt", b"RCPT TO:<" + path + b">")

    def _data_step(self, argument: bytes) -> _Step:
        if argument:
            raise NotObeyed(501, "5.5.4", "DATA has no parameters")
        return _Step("data", b"DATA")

    def _steps_behind(self, lease: Lease) -> list[_Step]:
        """The commands that the client has pipelined already, as far as they may go on in one piece (RFC 2920)."""
        steps: list[_Step] = []
        while "PIPELINING" in lease.session.extensions and (not steps or steps[-1].verb != "data"):
            line = self._wire.ready_line(_COMMAND_LIMIT_OCTETS)
            if line is None:
                break
            verb, _, argument = line.partition(b" ")
            step_of = {b"RCPT": self._rcpt_step, b"DATA": self._data_step}.get(verb.upper())
            if step_of is None or CONTROL.search(line):
                self._read_ahead = line
                break
            try:
                steps.append(step_of(argument))
            except NotObeyed as refused:
                steps.append(_Step(verb.decode().lower(), answer=refused.answer))
        return steps

    async def _lent(self) -> Lease:
        """The session with the mail server: the client's own, or one from the pool."""
        if self._lease is None:
            admission = self._admission or await self._admitted_by_network()
            with self._answered(_AT_MAIL, admission):
                self._lease = await self._relay.pool.lease(admission, self._who(admission))
            if self._admission is not None:
                self._admission = self._lease.admission
        return self._lease

    async def _admitted_by_network(self) -> Admission:
        try:
            return await self._relay.door.admit(Protocol.SMTP, self._client.address, None, None)
        except NotPermitted:
            needed = "sign in first" if self._client.may_sign_in else "begin TLS and sign in first"
            raise NotObeyed(530, "5.7.0", needed) from None
        except MailtokenError as error:
            raise NotObeyed(451, "4.7.0", str(error)) from None

    async def _begin_message(self, lease: Lease) -> None:
        with self._answered(_AT_MAIL, lease.admission):
            await lease.turns.message(self._who(lease.admission))

    async def _relay_group(self, lease: Lease, steps: Sequence[_Step]) -> None:
        """Pass commands on in one piece, and the replies back in order; a message follows if it may.

        Raises:
            _Stale: a session that was used before had ended meanwhile; nothing was begun.
        """
        for step in steps:
            if step.command:
                lease.session.wire.write(step.command + b"\r\n")
        self._is_in_transaction = True
        codes: dict[str, int] = {}
        for step in steps:
            if step.answer or self._lease is None:
                self._wire.write(step.answer or _no_transaction().answer)
            else:
                codes[step.verb] = await self._reply_to(lease, step)
        if codes.get("data") == 354:
            await self._stream(lease)
        elif self._lease is None or codes.get("mail", 250) // 100 != 2:
            self._is_in_transaction = False

    async def _reply_to(self, lease: Lease, step: _Step) -> int:
        """Pass on the reply to one command; returns its code, 0 if none came."""
        try:
            reply = await lease.session.reply()
            if reply.code < 400 and (reply.code != 354 if step.verb == "data" else not reply.is_positive):
                raise Garbled("not a reply to this command")
        except (OSError, Garbled) as error:
            self._drop()
            if step.verb == "mail" and lease.may_be_stale and isinstance(error, ConnectionError):
                raise _Stale from None
            self._wire.write(self._lost(error, step.verb, lease.admission))
            return 0
        except BaseException:
            self._drop()
            raise
        self._pass_back(lease, step.verb, reply)
        return reply.code

    def _pass_back(self, lease: Lease, step: str, reply: Reply) -> None:
        """A reply of the mail server, to the client."""
        if reply.code >= 400:
            why = Refusal.at(step, reply)
            self._note("mail server refused", lease.admission, f"{step}: {reply}: {why.verdict}")
            self._relay.pool.heed(lease, reply)
        if reply.code == 421:
            self._drop()
        self._wire.write(_for_the_client(reply))

    async def _stream(self, lease: Lease) -> None:
        """Pass a message on while it comes, and its reply back."""
        try:
            failure = await self._stream_content(lease)
            if failure is None:
                failure = await self._acceptance(lease)
        except BaseException:
            self._drop()
            raise
        if failure is not None:
            self._wire.write(failure)
        lease.may_be_stale = True
        self._message_over()

    async def _stream_content(self, lease: Lease) -> bytes | None:
        """Pass the message on up to its end; returns what to answer if the mail server does not get all of it.

        Then the rest is read and thrown away: the client is not listening yet.
        """
        scanner, failure, rest = MessageScanner(), None, None
        began = monotonic()
        while rest is None:
            data = await self._wire.some(began + _DATA_SECONDS + scanner.octets / _DATA_OCTETS_PER_SECOND - monotonic())
            message, rest = scanner.feed(data)
            if scanner.octets > 2 * self._relay.message_size:
                raise TooLong("a message that goes on long after its limit")
            if failure is None:
                failure = await self._passed(lease, message, scanner.octets)
        self._wire.put_back(rest)
        return failure

    async def _passed(self, lease: Lease, message: bytes, octets: int) -> bytes | None:
        """Pass a piece of the message on; returns the answer to the message if that is no use any more."""
        wire = lease.session.wire
        try:
            if octets > self._relay.message_size:
                self._drop()
                return too_big(self._relay.message_size).answer
            if wire.has_input:
                return await self._early(lease)
            wire.write(message)
            await wire.drain(lease.admission.timeout_seconds, or_input=True)
        except (OSError, Garbled) as error:
            self._drop()
            return self._lost(error, "data", lease.admission)
        return None

    async def _early(self, lease: Lease) -> bytes:
        """A reply before the end of the message: it can only be a refusal."""
        reply = await lease.session.reply()
        self._drop()
        if reply.code < 400:
            raise Garbled("a message accepted before its end")
        self._note("mail server refused", lease.admission, f"data: {reply}: {Refusal.at('data', reply).verdict}")
        return _for_the_client(reply)

    async def _acceptance(self, lease: Lease) -> bytes | None:
        """Pass back the reply to the final dot; returns what to answer without one."""
        try:
            reply = await lease.session.reply(self._relay.acceptance_seconds)
            if reply.code // 100 == 3:
                raise Garbled("not a reply to a message")
        except (OSError, Garbled):
            self._drop()
            self._note("mail server did not answer", lease.admission, "it had the whole message")
            return answer(
                451,
                "4.4.2",
                "It is not known whether the message was sent: the mail server had all of it, but its answer did not"
                " come; look for it before you send it again",
            )
        self._pass_back(lease, "data", reply)
        if reply.is_positive:
            log.info("message sent", **self._about(lease.admission))
        return None

    # Sessions, and what is said about them

    def _who(self, admission: Admission) -> tuple[str, str]:
        """Whom to take turns with: several machines may share a user, and several users a machine."""
        return self._client.address, admission.user

    async def _reset(self) -> None:
        """The message under way is given up, and the mail server forgets what it has of it."""
        if self._lease is not None and self._is_in_transaction and not self._relay.pool.keeps_sessions:
            try:
                await self._lease.session.command(b"RSET")
            except BaseException as error:
                self._drop()
                if not isinstance(error, (OSError, Garbled)):
                    raise
        self._message_over()

    def _message_over(self) -> None:
        """No message is under way any more; others may have the session now."""
        self._is_in_transaction = False
        if self._lease is not None and self._relay.pool.keeps_sessions:
            self._let_go()

    def _let_go(self) -> None:
        """The client needs no session any more."""
        self._is_in_transaction = False
        if self._lease is not None:
            self._relay.pool.release(self._lease)
            self._lease = None

    def _drop(self) -> None:
        """End the session with the mail server at once: nothing half sent can count."""
        if self._lease is not None:
            self._relay.pool.discard(self._lease, abort=True)
            self._lease = None

    def _lost(self, error: OSError | Garbled, step: str, admission: Admission) -> bytes:
        """The answer to a command that the mail server did not answer."""
        why = explain(error, step, where(admission)).verdict
        self._note("mail server lost", admission, f"{step}: {why}")
        return answer(451, "4.4.2", f"{why} The message was not sent.")

    @contextmanager
    def _answered(self, answers: _Answers, admission: Admission) -> Iterator[None]:
        """Why there is no session with the mail server leaves as the answer to the client."""
        try:
            yield
        except Crowded as crowded:
            raise NotObeyed(432, "4.3.2", str(crowded)) from None
        except MailtokenError as error:
            raise NotObeyed(answers.later, "4.7.0", str(error)) from None
        except Ended as ended:
            self._note("mail server does not let us in", admission, f"{ended.reply or ended.fault}: {ended.verdict}")
            raise NotObeyed(*answers.to(ended), ended.verdict) from None

    def _note(self, event: str, admission: Admission, why: str) -> None:
        log.warning(event, **self._about(admission), why=why)

    def _about(self, admission: Admission) -> dict[str, str]:
        return {
            "address": self._client.address,
            "user": admission.user,
            "profile": admission.profile,
            "server": admission.server,
        }

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
        b"QUIT": _quit,
    }


def _no_transaction() -> NotObeyed:
    return NotObeyed(503, "5.5.1", "MAIL comes first")


def _for_the_client(reply: Reply) -> bytes:
    """A reply as it is; but a 421 is about the mail server's connection, not about the client's."""
    return re.sub(rb"(?m)^421", b"451", reply.lines)
