//! One packet and its reply: what all packet protocols share.

use crate::app::{App, Event};
use crate::command::{Code, Command, Kind, Reply};
use crate::server::{CloseReason, Context, Step};

use super::remote_stream::Spelling;
use super::{
    Data, Flag, Iocp, State, ask, control, download, login, remote_stream, throughput, upload,
};

/// What becomes of a packet.
pub(super) enum Outcome {
    /// Its reply is in the scratch memory (`len` 0: it gets none).
    Reply { len: usize, data: Data, then: Then },
    /// It cannot be served yet, and stays unconsumed.
    Wait(Step),
}

/// What follows a reply.
pub(super) enum Then {
    Go,
    Close(CloseReason),
    /// The pending login takes effect.
    LoggedIn,
    /// The pending login is counted as a failure.
    LoginFailed,
    /// This many bytes of a frozen list follow.
    Stream(u32),
    /// The session has a file open from now on, or no longer.
    Open(bool),
    /// The packet's data is a `Write`'s, whose reply follows it.
    Write(Spelling),
    /// A download with packets of this size follows.
    Announce(u32),
    /// This many bytes of the store's follow, as part of the reply's text.
    Text(u32),
    /// This many bytes of the store's follow, as the reply's data.
    Body(u32),
}

/// One packet that is being served.
pub(super) struct Exchange<'a, 'c, A: App> {
    pub(super) iocp: &'a mut Iocp<A>,
    pub(super) cx: &'a mut Context<'c, A::Address>,
    pub(super) state: &'a mut State<A::User>,
    /// Bytes of reply that the socket takes now.
    pub(super) room: usize,
    pub(super) data_len: u32,
}

impl<A: App> Exchange<'_, '_, A> {
    /// Serves a packet with this command text.
    pub(super) fn serve(&mut self, text: &[u8]) -> Outcome {
        let command = match Command::parse(text) {
            Ok(command) => command,
            Err(error) => return self.refuse_packet(Code::FORMAT, error.message()),
        };
        if command.kind() == Kind::Response {
            // The answer to a request that nobody waits for; it is never taken for a request.
            return Outcome::Reply { len: 0, data: Data::Discard, then: Then::Go };
        }
        let Some(name) = command.name() else {
            return self.fail("", Code::INCOMPLETE, "the request has no Command key");
        };
        if name.eq_ignore_ascii_case("Active") {
            return self.heartbeat(name);
        }
        if self.state.flag == Some(Flag::Throughput) {
            return throughput::serve(self, name, &command);
        }
        if name.eq_ignore_ascii_case("Login") {
            return login::serve(self, name, &command);
        }
        if self.state.user.is_none() && self.iocp.wants_login(self.state.flag) {
            return self.fail(name, Code::LOGIN_REQUIRED, "");
        }
        match self.state.flag {
            Some(Flag::Upload) if Iocp::<A>::FILES => upload::serve(self, name, &command),
            Some(Flag::Download) if Iocp::<A>::FILES => download::serve(self, name, &command),
            Some(Flag::RemoteStream) if Iocp::<A>::FILES => {
                remote_stream::serve(self, name, &command)
            }
            _ => control::serve(self, name, &command),
        }
    }

    fn heartbeat(&mut self, name: &str) -> Outcome {
        let outcome = self.succeed(name, |reply| reply, Data::Discard, Then::Go);
        if matches!(outcome, Outcome::Reply { .. }) {
            self.iocp.count_heartbeat(self.cx, self.state);
        }
        outcome
    }

    /// A reply of code 0 with further keys.
    pub(super) fn succeed(
        &mut self,
        name: &str,
        keys: impl FnOnce(Reply<'_>) -> Reply<'_>,
        data: Data,
        then: Then,
    ) -> Outcome {
        let back = match then {
            Then::Body(len) => len as usize,
            _ if data == Data::Echo => self.data_len as usize,
            _ => 0,
        };
        let more = if let Then::Stream(len) | Then::Text(len) = then { len as usize } else { 0 };
        let order = self.iocp.config.limits.order;
        let reply = keys(Reply::new(self.cx.scratch, name, Code::OK));
        match reply.finish_with(more, back, order) {
            Ok(len) if len > self.room => Outcome::Wait(Step::Output),
            Ok(len) => Outcome::Reply { len, data, then },
            Err(_) => self.fail(name, Code::UNKNOWN, "the reply would be over the packet limit"),
        }
    }

    /// A reply of another code; the connection stays.
    pub(super) fn fail(&mut self, name: &str, code: Code, message: &str) -> Outcome {
        self.fail_then(name, code, message, Data::Discard, Then::Go)
    }

    /// A reply of another code, and what follows.
    pub(super) fn fail_then(
        &mut self,
        name: &str,
        code: Code,
        message: &str,
        data: Data,
        then: Then,
    ) -> Outcome {
        let order = self.iocp.config.limits.order;
        let back = if data == Data::Echo { self.data_len as usize } else { 0 };
        let len = Reply::failure(self.cx.scratch, name, code, message)
            .finish(back, order)
            // A name that does not fit is left out rather than cut: it must be the peer's own.
            .or_else(|_| Reply::failure(self.cx.scratch, "", code, message).finish(0, order));
        match len {
            Ok(len) if len > self.room => Outcome::Wait(Step::Output),
            Ok(len) => Outcome::Reply { len, data, then },
            // No memory for any reply at all: a configuration without scratch.
            Err(_) => Outcome::Reply { len: 0, data: Data::Discard, then },
        }
    }

    /// A packet that breaks the protocol: the code, then the end.
    pub(super) fn refuse_packet(&mut self, code: Code, message: &'static str) -> Outcome {
        let then = Then::Close(CloseReason::BadPacket);
        let outcome = self.fail_then("", code, message, Data::Discard, then);
        if matches!(outcome, Outcome::Reply { .. }) {
            self.iocp.app.event(&ask(self.cx), Event::BadPacket { code, message });
        }
        outcome
    }

    /// A command that does not exist: the code, then the end.
    pub(super) fn unknown_command(&mut self, name: &str) -> Outcome {
        let then = Then::Close(CloseReason::UnknownCommand);
        let outcome =
            self.fail_then(name, Code::NO_SUCH_COMMAND, "no such command", Data::Discard, then);
        if matches!(outcome, Outcome::Reply { .. }) {
            self.iocp.app.event(&ask(self.cx), Event::UnknownCommand { name });
        }
        outcome
    }
}
