"""Passes a client's messages on to its mail server: commands in groups, a message in pieces, the replies back."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import structlog

from adapters.mail.line_connection import ProtocolError, TooLong
from adapters.mail.report import ConversationFailed, explain, parts, redact
from adapters.mail.smtp_client import (
    ACCEPTANCE_SECONDS,
    DATA_SECONDS,
    MAIL_SECONDS,
    SMTPRefused,
    SMTPReply,
)
from adapters.relay.admission import Admission, AdmissionClient
from adapters.relay.capabilities import Capabilities
from adapters.relay.connection_pool import Lease, Pool
from adapters.relay.device_message import NormalizingScanner, SenderRewriter
from adapters.relay.listener import ClientConnection
from adapters.relay.mailbox_limits import QuotaTimeout
from adapters.relay.message_scanner import MessageScanner
from adapters.relay.refusals import Cause
from adapters.relay.reply_codes import AT_MAIL, ReplyCodes
from adapters.relay.reply_texts import reply_text
from adapters.relay.smtp_commands import SMTPRefusal, answer, too_big
from adapters.texts.verdicts import verdict_text
from adapters.texts.wording import Surface
from domain.catalogue import Protocol
from domain.errors import MailtokenError, NotPermitted
from domain.mail_report import Fault, Verdict
from infrastructure.clock import SystemClock
from infrastructure.mail_counters import MailCounters

log = structlog.get_logger("mailtoken")

MESSAGE_SECONDS = 300.0
"""The time limit for a message; a second more for every `_DATA_OCTETS_PER_SECOND` octets received."""
_DATA_OCTETS_PER_SECOND = 512
# The time for a reply, by the verb of the command; `MAIL_SECONDS` for the others.
_SECONDS: Mapping[str, float] = {"data": DATA_SECONDS}
_PROBE_SECONDS = 5.0
_NO_REPLY = SMTPReply(0, b"")
_ENVELOPE_LOST = answer(
    451, "4.4.2", "the mail server ended the session, and refused the message's envelope in a new one: try again later"
)


@dataclass(frozen=True)
class Step:
    """A command of a pipelined group: the octets for the mail server, or the relay's own answer in place of them."""

    verb: str
    command: bytes = b""
    answer: bytes = b""

    @property
    def octets(self) -> bytes:
        """The command as it is sent, nothing if the relay answers itself."""
        return self.command + b"\r\n" if self.command else b""


@dataclass(frozen=True)
class SMTPSettings:
    """The settings of all SMTP sessions. `message_size` is in octets; a client may be silent for `idle_seconds`.

    `acceptance_seconds` is how long a mail server may take for its reply to the final dot.
    """

    admission_client: AdmissionClient
    pool: Pool
    capabilities: Capabilities
    idle_seconds: float
    message_size: int
    acceptance_seconds: float = ACCEPTANCE_SECONDS
    counters: MailCounters = field(default_factory=lambda: MailCounters(SystemClock()))
    host: str = field(default_factory=socket.gethostname)


class MessageRelay:
    """The part of an SMTP session that speaks with the mail server, through a session that the pool lends."""

    def __init__(self, settings: SMTPSettings, client: ClientConnection) -> None:
        self._settings = settings
        self._client = client
        self._connection = client.connection
        self._admission: Admission | None = None
        self._lease: Lease | None = None
        self._is_in_transaction = False
        # The MAIL and RCPT commands that the mail server has accepted for the current message.
        self._envelope: list[Step] = []
        self._is_receiving = False
        # Whether the current transaction ended before its message, and not by the client.
        self._is_lost = False

    async def _lent(self) -> Lease:
        """The client's session with the mail server, leased from the pool at the first call."""
        if self._lease is None:
            admission = self._admission or await self._admitted_by_network()
            with self._answered(AT_MAIL, admission):
                self._lease = await self._settings.pool.lease(admission, self._who(admission))
            self._client.user, self._client.profile = admission.user, admission.profile
            if self._admission is not None:
                self._admission = self._lease.admission
        return self._lease

    async def _admitted_by_network(self) -> Admission:
        try:
            return await self._settings.admission_client.admit(Protocol.SMTP, self._client.address, None, None)
        except NotPermitted:
            needed = "sign in first" if self._client.may_sign_in else "begin TLS and sign in first"
            raise SMTPRefusal(530, "5.7.0", needed, Cause.NOT_SIGNED_IN) from None
        except MailtokenError as error:
            raise SMTPRefusal(451, "4.7.0", reply_text(error), Cause.SERVICE) from None

    async def _begin_message(self, lease: Lease) -> None:
        with self._answered(AT_MAIL, lease.admission):
            await lease.queue.message(self._who(lease.admission))
        lease.messages += 1
        self._envelope.clear()

    async def _relay_group(self, lease: Lease, steps: Sequence[Step]) -> None:
        """Pass commands on in one piece and their replies back in order, then the message if DATA was accepted.

        If the mail server has ended a kept session, a fresh session takes the envelope again, and the commands that the
        server did not carry out: the client has sent nothing of its message yet, so none can be sent twice.
        """
        self._is_in_transaction = True
        replies, error = await self._replies(lease, steps)
        is_in_doubt = error is not None or any(reply.code >= 400 for reply in replies)
        if lease.is_kept and is_in_doubt and await self._has_ended(lease, replies, error):
            done = _carried_out(replies)
            self._pass_all_back(lease, steps[:done], replies[:done])
            steps = steps[done:]
            if not await self._start_afresh(lease):
                self._answer_without_session(steps[1:])
                return
            replies, error = await self._replies(lease, steps)
        codes = self._pass_all_back(lease, steps, replies)
        if error is not None:
            self._connection.write(self._lost(error, steps[len(replies)].verb, lease.admission))
        self._answer_without_session(steps[len(replies) + (error is not None) :])
        if self._lease is not None and codes.get("data") == 354:
            await self._stream(lease)
        elif self._lease is None or codes.get("mail", 250) // 100 != 2:
            self._is_in_transaction = False

    async def _replies(
        self, lease: Lease, steps: Sequence[Step]
    ) -> tuple[list[SMTPReply], OSError | ProtocolError | None]:
        """Send commands; returns the replies up to the first 421, or up to the error that came in place of a reply.

        A step with an answer of the relay's own has a reply without code.
        """
        replies: list[SMTPReply] = []
        session, at_once = lease.session, "PIPELINING" in lease.session.extensions
        try:
            if at_once:
                session.connection.write(b"".join(step.octets for step in steps))
            for step in steps:
                if step.answer:
                    replies.append(_NO_REPLY)
                    continue
                if not at_once:
                    session.connection.write(step.octets)
                replies.append(_fitting(step, await session.reply(_SECONDS.get(step.verb, MAIL_SECONDS))))
                if replies[-1].code == 421:
                    break
        except (OSError, ProtocolError) as error:
            return replies, error
        except BaseException:
            self._drop()
            raise
        return replies, None

    async def _has_ended(self, lease: Lease, replies: Sequence[SMTPReply], error: Exception | None) -> bool:
        """Whether the mail server has ended the session, after a refusal or an error in place of a reply.

        A 4xx may be the server's last reply to a command or its last reply of all: NOOP tells which.
        """
        codes = [reply.code for reply in replies if reply.code]
        if isinstance(error, ProtocolError):
            return False
        if error is not None or codes[-1:] == [421]:
            return True
        if 354 in codes or not any(code // 100 == 4 for code in codes):
            return False
        try:
            return not (await lease.session.command(b"NOOP", _PROBE_SECONDS)).is_positive
        except (OSError, ProtocolError):
            return True
        except BaseException:
            self._drop()
            raise

    async def _start_afresh(self, lease: Lease) -> bool:
        """Replace the session and send the envelope again; if that fails, answer the command and return False."""
        self._lease = None
        try:
            with self._answered(AT_MAIL, lease.admission):
                await self._settings.pool.replace(lease, self._who(lease.admission))
        except SMTPRefusal as refused:
            self._lose_transaction(refused.answer)
            return False
        self._lease = lease
        envelope = tuple(self._envelope)
        replies, error = await self._replies(lease, envelope)
        if error is not None:
            self._lose_transaction(self._lost(error, envelope[len(replies)].verb, lease.admission))
            return False
        for accepted, reply in zip(envelope, replies, strict=False):
            if not reply.is_positive:
                self._note_refusal(lease, accepted.verb, reply)
                self._drop()
                self._lose_transaction(_ENVELOPE_LOST)
                return False
        return True

    def _lose_transaction(self, answer: bytes) -> None:
        """Answer the step at which the transaction ended before its message."""
        self._connection.write(answer)
        self._is_in_transaction, self._is_lost = False, True

    def _answer_without_session(self, steps: Sequence[Step]) -> None:
        """Answer the pipelined commands behind the one at which the transaction ended."""
        for step in steps:
            self._is_lost = True
            self._connection.write(step.answer or transaction_lost().answer)

    def _pass_all_back(self, lease: Lease, steps: Sequence[Step], replies: Sequence[SMTPReply]) -> dict[str, int]:
        """Send replies to the client in order; returns the code of the last reply to each verb."""
        codes: dict[str, int] = {}
        for step, reply in zip(steps, replies, strict=False):
            if step.answer:
                self._connection.write(step.answer)
                continue
            self._pass_back(lease, step.verb, reply)
            codes[step.verb] = reply.code
            if step.verb in ("mail", "rcpt") and reply.is_positive:
                self._envelope.append(step)
        return codes

    def _pass_back(self, lease: Lease, step: str, reply: SMTPReply) -> None:
        """Send a reply of the mail server to the client."""
        if reply.code >= 400:
            self._note_refusal(lease, step, reply)
        if reply.code == 421:
            self._drop()
            self._is_lost = True
        self._connection.write(self._for_the_client(lease, step, reply))

    def _note_refusal(self, lease: Lease, step: str, reply: SMTPReply) -> None:
        """Log and record a refusal of the mail server, and pause the mailbox if the server asks for it."""
        verdict = SMTPRefused.at(step, reply).verdict
        self._note("mail_server_refused", lease.admission, f"{step}: {reply.status}: {verdict}")
        secret = parts([lease.admission.login.access_token.reveal()])
        self._client.record(_cause(step, reply, verdict), redact(str(reply), secret))
        self._settings.counters.refused(lease.admission.profile)
        self._settings.pool.heed(lease, reply)

    def _for_the_client(self, lease: Lease, step: str, reply: SMTPReply) -> bytes:
        """The reply for the client. A 421 becomes 451, since only the connection to the mail server ends.

        A refused sender is followed by the address that the mailbox may use.
        """
        lines = reply.lines if reply.code != 421 else re.sub(rb"(?m)^421", b"451", reply.lines)
        if reply.code < 500 or SMTPRefused.at(step, reply).verdict.fault is not Fault.SENDER:
            return lines
        *before, last = lines.split(b"\r\n")[:-1]
        hint = answer(reply.code, reply.enhanced, f"the mailbox may send as {lease.admission.login.mailbox}")
        return b"\r\n".join((*before, last[:3] + b"-" + last[4:], hint))

    async def _stream(self, lease: Lease) -> None:
        """Pass a message on while it arrives, and the reply to it back."""
        try:
            failure, octets = await self._stream_content(lease)
            if failure is None:
                failure = await self._acceptance(lease, octets)
        except BaseException:
            self._drop()
            raise
        if failure is not None:
            self._connection.write(failure)
        lease.is_kept = True
        self._message_over()

    async def _stream_content(self, lease: Lease) -> tuple[bytes | None, int]:
        """Pass the message on up to its end; returns its octets.

        Before them is the relay's own reply, if the mail server did not get all of the message.

        In that case the rest is read and discarded, since a client reads no reply before it has sent the whole message.
        """
        admission, failure, rest = lease.admission, None, None
        scanner = NormalizingScanner() if admission.normalizes else MessageScanner()
        rewriter = SenderRewriter(admission.sender) if admission.sender else None
        self._is_receiving, began = True, monotonic()
        while rest is None:
            data = await self._connection.some(
                began + MESSAGE_SECONDS + scanner.octets / _DATA_OCTETS_PER_SECOND - monotonic()
            )
            message, rest = scanner.feed(data)
            if rewriter is not None:
                message = rewriter.feed(message, is_last=rest is not None)
            if scanner.octets > 2 * self._settings.message_size:
                raise TooLong("a message that goes on long after its limit")
            if failure is None:
                failure = await self._passed(lease, message, scanner.octets)
        self._is_receiving = False
        self._connection.put_back(rest)
        return failure, scanner.octets

    async def _passed(self, lease: Lease, message: bytes, octets: int) -> bytes | None:
        """Pass a piece of the message on; returns the relay's own reply if no more of it can be sent."""
        try:
            if octets > self._settings.message_size:
                self._drop()
                refused = too_big(self._settings.message_size)
                self._client.refuse(refused.cause, str(refused))
                return refused.answer
            reply = await lease.session.pass_on(message)
        except (OSError, ProtocolError) as error:
            self._drop()
            return self._lost(error, "data", lease.admission)
        if reply is None:
            return None
        self._drop()
        self._note_refusal(lease, "data", reply)
        return self._for_the_client(lease, "data", reply)

    async def _acceptance(self, lease: Lease, octets: int) -> bytes | None:
        """Pass the reply to the final dot back; returns the relay's own reply if none came."""
        try:
            reply = await lease.session.reply(self._settings.acceptance_seconds)
            if reply.code // 100 == 3:
                raise ProtocolError("not a reply to a message")
        except (OSError, ProtocolError):
            self._drop()
            self._note("mail_server_reply_missed", lease.admission, "it had the whole message")
            self._client.record(Cause.MAIL_SERVER, "its reply to the whole message did not come")
            return answer(
                451,
                "4.4.2",
                "It is not known whether the message was sent: the mail server had all of it, but its answer did not"
                " come; look for it before you send it again",
            )
        self._pass_back(lease, "data", reply)
        if reply.is_positive:
            log.info("message_sent", **self._about(lease.admission))
            self._settings.counters.sent(lease.admission.profile, octets)
        return None

    # The session with the mail server, and the log

    def _who(self, admission: Admission) -> tuple[str, str]:
        """The client's key in a mailbox's queue: machines may share a user, and users may share a machine."""
        return self._client.address, admission.user

    async def _reset(self) -> None:
        """Cancel the current message, also at the mail server."""
        if self._lease is not None and self._is_in_transaction and not self._settings.pool.keeps_sessions:
            await self._reset_session(self._lease)
        self._message_over()
        self._is_lost = False

    async def _reset_session(self, lease: Lease) -> None:
        """Send RSET; a session that does not take it is ended, and the next message gets a fresh one."""
        try:
            is_reset = (await lease.session.command(b"RSET")).is_positive
        except BaseException as error:
            self._drop()
            if not isinstance(error, (OSError, ProtocolError)):
                raise
            return
        lease.is_kept = True
        if not is_reset:
            self._drop()

    def _message_over(self) -> None:
        """End the transaction; with the pool, other clients may use the session from now on."""
        self._is_in_transaction = False
        if self._lease is not None and self._settings.pool.keeps_sessions:
            self._let_go()

    def _let_go(self) -> None:
        """Give the session with the mail server back to the pool."""
        self._is_in_transaction = False
        if self._lease is not None:
            self._settings.pool.release(self._lease)
            self._lease = None

    def _drop(self) -> None:
        """End the session with the mail server at once, so that the server never accepts a partial message."""
        if self._lease is not None:
            self._settings.pool.discard(self._lease, abort=True)
            self._lease = None

    def _lost(self, error: OSError | ProtocolError, step: str, admission: Admission) -> bytes:
        """The reply to a command that the mail server did not reply to; the transaction is over."""
        self._drop()
        self._is_lost = True
        why = verdict_text(explain(error, step, admission.login.address.where).verdict, Surface.API)
        self._note("mail_server_lost", admission, f"{step}: {why}")
        self._client.record(Cause.MAIL_SERVER, why)
        return answer(451, "4.4.2", f"{why} The message was not sent.")

    @contextmanager
    def _answered(self, codes: ReplyCodes, admission: Admission) -> Iterator[None]:
        """A context in which a failure to get a session becomes the refusal that the client receives."""
        try:
            yield
        except QuotaTimeout as timeout:
            raise SMTPRefusal(432, "4.3.2", reply_text(timeout), Cause.MAIL_SERVER_BUSY) from None
        except MailtokenError as error:
            raise SMTPRefusal(codes.later, "4.7.0", reply_text(error), Cause.SERVICE) from None
        except ConversationFailed as failed:
            self._note("mail_server_sign_in_failed", admission, f"{_status(failed)}: {failed.verdict}")
            self._settings.counters.refused(admission.profile)
            cause = Cause.MAIL_SERVER_BUSY if isinstance(failed, SMTPRefused) and failed.is_busy else Cause.MAIL_SERVER
            raise SMTPRefusal(
                *codes.of(failed), verdict_text(failed.verdict, Surface.API), cause, is_logged=True
            ) from None

    def _note(self, event: str, admission: Admission, why: str) -> None:
        log.warning(event, **self._about(admission), why=why)

    def _about(self, admission: Admission) -> dict[str, str]:
        return {
            "address": self._client.address,
            "user": admission.user,
            "profile": admission.profile,
            "server": admission.login.address.server,
        }


def _status(failed: ConversationFailed) -> str:
    """The codes of a refusal, for the log; its text may echo the token."""
    return failed.status if isinstance(failed, SMTPRefused) else failed.fault


def transaction_lost() -> SMTPRefusal:
    """The refusal of a command after the end of a transaction that the client did not end."""
    return SMTPRefusal(451, "4.4.2", "the mail server has ended this message: begin it again later")


def _fitting(step: Step, reply: SMTPReply) -> SMTPReply:
    """The reply, if it can be one to this command.

    Raises:
        ProtocolError: it can't.
    """
    if reply.code < 400 and (reply.code != 354 if step.verb == "data" else not reply.is_positive):
        raise ProtocolError("not a reply to this command")
    return reply


def _carried_out(replies: Sequence[SMTPReply]) -> int:
    """The number of steps before the first that the mail server put off, or did not reply to."""
    return next((at for at, reply in enumerate(replies) if reply.code // 100 == 4), len(replies))


def no_transaction() -> SMTPRefusal:
    """The refusal of a command that is not preceded by MAIL."""
    return SMTPRefusal(503, "5.5.1", "MAIL comes first")


def _cause(step: str, reply: SMTPReply, verdict: Verdict) -> Cause:
    """The cause of a refusal of the mail server, for the record."""
    if reply.is_busy:
        return Cause.MAIL_SERVER_BUSY
    if verdict.fault is Fault.MESSAGE:
        return Cause.TOO_BIG
    if verdict.fault is Fault.SENDER:
        return Cause.SENDER
    if reply.code < 500:
        return Cause.MAIL_SERVER
    return {"rcpt": Cause.RECIPIENT, "data": Cause.MESSAGE}.get(step, Cause.MAIL_SERVER)
