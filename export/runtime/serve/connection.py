"""One connection: its requests one after the other, each in bounded time and memory."""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Optional, Set, cast

from .bodies import is_encoded
from .http import CONTINUE, Head, HttpError, Request, Response, encode, end_of_head, parse_head

if TYPE_CHECKING:
    from .service import Job, Service

_MOST_AHEAD = 64 << 10
"""Bytes that are read while a request is answered."""
_MOST_UNSENT = 64 << 10
_LINGER_S = 2.0
_MOST_DISCARDED = 64 << 20
_HEAD_S = 10.0


class Phase(enum.Enum):
    """What a connection waits for."""

    HEAD = 1
    BODY = 2
    ANSWER = 3
    END = 4
    """The last answer was sent; what still comes is thrown away, so that the answer is not lost with it."""


class Connection(asyncio.Protocol):
    """See the module; everything runs in the thread of the loop."""

    def __init__(self, service: Service, others: Set[Connection], clock: asyncio.AbstractEventLoop) -> None:
        self._service, self._others, self._clock = service, others, clock
        self._transport: Optional[asyncio.Transport] = None
        self._buffer = bytearray()
        self._phase = Phase.HEAD
        self._head: Optional[Head] = None
        self._job: Optional[Job] = None
        self._held = 0
        self._discarded = 0
        self._requests = 0
        """How many were begun to be answered: which one a late answer is for."""
        self._is_blocked = self._is_paused = self._is_advancing = self._has_ended = False
        self.since = clock.time()
        """When it began to wait for the next request."""
        self.deadline = self.since + min(_HEAD_S, service.limits.read_s)

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun."""
        return self._phase is Phase.HEAD and not self._buffer and not self._is_blocked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_MOST_UNSENT)
        service = self._service
        service.metrics.connections += 1
        most, count = service.limits.connections, len(self._others)
        self._others.add(self)
        if count >= 2 * most:
            service.metrics.error("connections")
            self.abort()
        elif count >= most and not self._make_room():
            self._refuse(HttpError(503, "there are too many connections", "connections", closes=True))
        service.open_connections = len(self._others)

    def connection_lost(self, error: Optional[Exception]) -> None:
        """Part of asyncio.Protocol."""
        self._others.discard(self)
        self._service.open_connections = len(self._others)
        self._transport = None
        self._buffer = bytearray()
        if self._job is not None:
            self._job.is_cancelled = True  # its body is held until the job ends
        else:
            self._let_go()

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        if self._phase is Phase.END:
            self._discarded += len(data)
            if self._discarded > _MOST_DISCARDED:
                self.abort()
            return
        if self.is_idle:
            self.deadline = self._clock.time() + min(_HEAD_S, self._service.limits.read_s)
        self._buffer += data
        self._advance()

    def eof_received(self) -> bool:
        """Part of asyncio.Protocol: the client sends no more.

        While an answer is due it counts as gone, as in other servers: one that gave up is not worth the engine's time.
        What was answered already is still sent.
        """
        self._has_ended = True
        return self._is_blocked

    def pause_writing(self) -> None:
        """Part of asyncio.Protocol: the client does not read."""
        self._is_blocked = True
        if self._phase is not Phase.END:
            self.deadline = self._clock.time() + self._service.limits.read_s

    def resume_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._is_blocked = False
        if self._phase is Phase.HEAD:
            self._wait()
        self._advance()

    def time_out(self) -> None:
        """The deadline has passed."""
        if self._phase is Phase.END or self._is_blocked or self.is_idle:
            self.abort()
        elif self._phase is Phase.ANSWER:
            self._forget_job()
            self._service.timed_out()
            self._refuse(HttpError(504, "the engine did not answer in time", "answer_timeout", closes=True))
        else:
            self._refuse(HttpError(408, "the request did not arrive in time", "timeout", closes=True))

    def drain(self) -> None:
        """End after the answer that is due; now, if none is."""
        if self.is_idle:
            self.abort()

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    def _is_open(self) -> bool:
        """Whether what is written may arrive; the loop says only later that a connection was lost."""
        return self._transport is not None and not self._transport.is_closing()

    def _make_room(self) -> bool:
        """End the connection that has been idle for longest; whether there was one."""
        idle = [one for one in self._others if one.is_idle and one is not self]
        if not idle:
            return False
        oldest = min(idle, key=lambda one: one.since)
        self._others.discard(oldest)
        oldest.abort()
        return True

    def _advance(self) -> None:
        """Take requests from the buffer as long as one can be answered."""
        if self._is_advancing:  # an answer that came at once
            return
        self._is_advancing = True
        try:
            while self._is_open() and not self._is_blocked and self._step():
                pass
        except HttpError as error:
            self._refuse(error)
        finally:
            self._is_advancing = False
        if self._has_ended and not self._is_blocked and self._phase in (Phase.HEAD, Phase.BODY):
            self._end()
        self._flow()

    def _step(self) -> bool:
        """Do one thing; whether there may be more to do."""
        if self._phase is Phase.HEAD:
            if self._buffer[:2] == b"\r\n":  # an empty line before a request is none (RFC 9112, 2.2)
                del self._buffer[:2]
            end = end_of_head(self._buffer)
            if end is None:
                return False
            self._head = self._begin(parse_head(bytes(self._buffer[:end])), len(self._buffer) - end)
            del self._buffer[:end]
            return True
        if self._phase is Phase.BODY:
            head = self._head
            assert head is not None
            self._hold(min(len(self._buffer), head.length))
            if len(self._buffer) < head.length:
                return False
            if is_encoded(head.headers.get("content-encoding", "")):  # what it will take is not known
                self._hold(self._service.limits.body)
            if len(self._buffer) == head.length:
                body, self._buffer = self._buffer, bytearray()
            else:
                body = self._buffer[: head.length]
                del self._buffer[: head.length]
            self._handle(Request(head, cast(bytes, body)))
            return True
        return False

    def _begin(self, head: Head, here: int) -> Head:
        """Go on to read the body of a request; `here`: bytes of it that have come."""
        limits = self._service.limits
        if head.length > limits.body:
            raise HttpError(413, "the body has more than %d bytes" % limits.body, "too_large", closes=True)
        self._phase = Phase.BODY
        self.deadline = self._clock.time() + limits.read_s
        if head.expects_continue and here < head.length and self._transport is not None:
            self._transport.write(CONTINUE)
        return head

    def _handle(self, request: Request) -> None:
        self._phase = Phase.ANSWER
        self.deadline = self._clock.time() + self._service.limits.answer_s
        self._requests += 1
        number, held = self._requests, self._held

        def reply(response: Response) -> None:
            self._service.held -= held
            if number == self._requests and self._phase is Phase.ANSWER:
                self._held, self._job = 0, None
                self._send(request.head, response)

        self._job = self._service.handle(request, reply)
        if self._phase is not Phase.ANSWER:
            self._job = None

    def _send(self, head: Head, response: Response) -> None:
        if self._transport is None or not self._is_open():
            return
        ends = not head.keep_alive or self._service.is_draining or (self._has_ended and not self._buffer)
        self._transport.write(encode(response, keep_alive=not ends, without_body=head.method == "HEAD"))
        if ends:
            self._end()
        else:
            self._phase = Phase.HEAD
            self._wait()
            self._advance()

    def _wait(self) -> None:
        """For the next request."""
        if self._is_blocked:  # the deadline is that of the answer
            return
        self.since = self._clock.time()
        limits = self._service.limits
        self.deadline = self.since + (min(_HEAD_S, limits.read_s) if self._buffer else limits.idle_s)

    def _refuse(self, error: HttpError) -> None:
        """The last answer, to what is no request that can be read."""
        self._let_go()
        response = self._service.refusal(error)
        self._service.metrics.response("other", response.status)
        if self._transport is not None and self._is_open():
            self._transport.write(encode(response, keep_alive=False))
            self._end()

    def _forget_job(self) -> None:
        """Its answer will be for nobody, and its body is held until then."""
        if self._job is not None:
            self._job.is_cancelled = True
        self._job, self._held = None, 0
        self._requests += 1

    def _end(self) -> None:
        """Send what was written, then close, and throw away what still comes."""
        self._phase = Phase.END
        self._buffer = bytearray()
        if self._transport is None:
            return
        unsent = self._transport.get_write_buffer_size()
        self.deadline = self._clock.time() + (self._service.limits.read_s if unsent else _LINGER_S)
        self._resume()
        if self._has_ended:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def _hold(self, count: int) -> None:
        """Count the bytes of a body that are here, not those that were announced: to announce costs nothing."""
        service = self._service
        if service.held - self._held + count > service.limits.bodies:
            raise HttpError(
                503, "too many bytes wait already", "busy", closes=True, headers=(("Retry-After", "1"),)
            )
        service.held += count - self._held
        self._held = count

    def _let_go(self) -> None:
        self._service.held -= self._held
        self._held = 0

    def _flow(self) -> None:
        """Stop reading while more is here than is needed."""
        if self._transport is None or self._phase is Phase.END:
            return
        is_needed = not self._is_blocked and self._phase in (Phase.HEAD, Phase.BODY)
        if is_needed:
            self._resume()
        elif not self._is_paused and len(self._buffer) > _MOST_AHEAD:
            self._transport.pause_reading()
            self._is_paused = True

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._transport.resume_reading()
            self._is_paused = False
