//! What a wire protocol is to the server.

use core::fmt;

use embassy_time::Instant;

use super::{CloseReason, Closed, Session, Timers};
use crate::socket::Socket;
use crate::table::SessionId;

/// An address of one end of a connection: an IP address and a port, in whatever type the network
/// stack has for it. Small stacks save memory with a small type.
pub trait Address: Copy + Eq + fmt::Display + fmt::Debug {}
impl<T: Copy + Eq + fmt::Display + fmt::Debug> Address for T {}

/// Names one question to the application within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct JobId(pub(super) u32);

impl JobId {
    /// As a number, to be kept where only numbers can be.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From a number that [`JobId::to_bits`] gave. One that it did not give names no question.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// What a protocol sees of the server while it drives one session.
#[derive(Debug)]
pub struct Context<'a, A> {
    /// The time of this call.
    pub now: Instant,
    /// The session.
    pub id: SessionId,
    /// The number for a question that is put to the application now.
    pub job: JobId,
    /// The server's end.
    pub local: A,
    /// The peer's end.
    pub remote: A,
    /// When the connection was accepted.
    pub connected_at: Instant,
    /// Memory to write a reply in, free at each call.
    pub scratch: &'a mut [u8],
    /// Bytes that may still be handled in this turn.
    pub budget: usize,
    /// Set by the protocol when its state changed so that [`Protocol::timers`] or
    /// [`Protocol::is_newcomer`] may answer otherwise.
    pub changed: bool,
}

/// A question that is put to the application, and where its answer goes.
#[derive(Debug, Clone, Copy)]
pub struct Ask<A> {
    /// The time of the question.
    pub now: Instant,
    /// The session that asks.
    pub id: SessionId,
    /// The question's number, for [`Server::complete`](super::Server::complete).
    pub job: JobId,
    /// The server's end of the connection.
    pub local: A,
    /// The peer's end.
    pub remote: A,
}

/// What a protocol waits for after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The budget is spent; there is more to do.
    More,
    /// Bytes from the peer.
    Input,
    /// Room for output.
    Output,
    /// The application's answer to [`Context::job`], which has been asked now or before. To be
    /// repeated at every turn until [`Protocol::answer`] has brought it.
    App,
    /// A look at all sessions: [`Protocol::survey`] is called at once, and the turn ends.
    Survey,
    /// Nothing: flush what has been written, then end in good order.
    Close(CloseReason),
    /// Nothing: end at once.
    Abort(CloseReason),
}

/// A wire protocol: what the server calls between the socket and the application.
pub trait Protocol: Sized {
    /// The addresses of the network stack.
    type Address: Address;
    /// What is kept for each session.
    type State;
    /// Who a session is; kept in the records of ended sessions.
    type User: Clone;
    /// What the application answers to a question.
    type Answer;

    /// A connection was accepted.
    fn open(&mut self, now: Instant) -> Self::State;

    /// When a session in this state is to be ended. Asked when the session begins and whenever its
    /// state has changed, which is `now`: what counts from the change counts from there.
    fn timers(&self, state: &Self::State, connected_at: Instant, now: Instant) -> Timers;

    /// Serves one session as far as socket and budget let it.
    fn drive<S: Socket>(
        &mut self,
        cx: &mut Context<'_, Self::Address>,
        state: &mut Self::State,
        socket: &mut S,
    ) -> Step;

    /// The application has answered the question that the session waits for.
    fn answer(&mut self, state: &mut Self::State, answer: Self::Answer);

    /// Sees every session, because [`Step::Survey`] was asked for. Gives the answer for the
    /// asking session, or `None` if the application will answer later under [`Ask::job`].
    fn survey<'a>(
        &mut self,
        ask: &Ask<Self::Address>,
        sessions: &mut dyn Iterator<Item = (SessionId, &'a Session<Self>)>,
    ) -> Option<Self::Answer>
    where
        Self: 'a;

    /// Whether a session has proven nothing yet and may be evicted when the table is full.
    fn is_newcomer(&self, state: &Self::State) -> bool;

    /// Whether a reply has begun whose promised length has not been written: a session that ends
    /// like this is reset, for the peer must not take what it has for the whole.
    fn is_mid_reply(&self, _state: &Self::State) -> bool {
        false
    }

    /// Who the session is, once it has said so.
    fn user<'a>(&self, state: &'a Self::State) -> Option<&'a Self::User>;

    /// A session ended. Its slot is free when this is called.
    fn closed(&mut self, closed: &Closed<Self>, state: &mut Self::State);
}
