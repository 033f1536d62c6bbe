//! Heartbeats as nearly all devices spell them: known as a whole, and answered without parsing or writing anything.
//!
//! Any other spelling, and one that the socket has no room to answer now, goes the way of all packets.

use crate::app::{App, Event};
use crate::frame::{ByteOrder, HEADER_LEN};
use crate::server::Context;
use crate::socket::Socket;

use super::{Iocp, State, ask};

/// `[Request]`, `Command=Active`.
type Request = [u8; HEADER_LEN + 25];
/// `[Response]`, `Command=Active`, `Code=0`.
type Reply = [u8; HEADER_LEN + 34];

const LITTLE: (&Request, &Reply) = (
    b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active",
    b"\x26\0\0\0\x22\0\0\0[Response]\r\nCommand=Active\r\nCode=0",
);
const BIG: (&Request, &Reply) = (
    b"\0\0\0\x1d\0\0\0\x19[Request]\r\nCommand=Active",
    b"\0\0\0\x26\0\0\0\x22[Response]\r\nCommand=Active\r\nCode=0",
);

/// Bytes of a heartbeat in this spelling.
pub(super) const REQUEST_LEN: usize = size_of::<Request>();

impl<A: App> Iocp<A> {
    const fn usual_heartbeat(&self) -> (&'static Request, &'static Reply) {
        match self.config.limits.order {
            ByteOrder::Little => LITTLE,
            ByteOrder::Big => BIG,
        }
    }

    /// How many heartbeats stand at the front of the input, as far as the budget goes and one write can answer them:
    /// more would only be looked at again.
    pub(super) fn heartbeats_at_front(&self, cx: &Context<'_, A::Address>, input: &[u8]) -> usize {
        let limits = &self.config.limits;
        // The lengths keep within limits of any sense.
        if (limits.command as usize) < REQUEST_LEN || (limits.packet as usize) < REQUEST_LEN {
            return 0;
        }
        let (request, _) = self.usual_heartbeat();
        let most = cx.budget.div_ceil(REQUEST_LEN).min(cx.scratch.len() / size_of::<Reply>());
        let packets = input.as_chunks().0.iter().take(most);
        packets.take_while(|packet| *packet == request).count()
    }

    /// Answers so many of the heartbeats that stand at the front of the input, or fewer if there is not the room, with
    /// one write. Returns whether any was answered.
    pub(super) fn answer_heartbeats<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
        count: usize,
        room: usize,
    ) -> bool {
        let (_, reply) = self.usual_heartbeat();
        let count = count.min(room.min(cx.scratch.len()) / reply.len());
        if count == 0 {
            return false;
        }
        for to in cx.scratch.as_chunks_mut().0.iter_mut().take(count) {
            *to = *reply;
        }
        socket.consume(count * REQUEST_LEN);
        cx.budget = cx.budget.saturating_sub(count * REQUEST_LEN);
        socket.write(cx.scratch.get(..count * reply.len()).unwrap_or_default());
        self.work.commands += count as u64;
        for _ in 0..count {
            self.count_heartbeat(cx, state);
        }
        true
    }

    /// One heartbeat has been answered.
    pub(super) fn count_heartbeat(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
    ) {
        self.work.heartbeats += 1;
        if !state.marks.has_beaten() {
            state.marks.set_beaten();
            cx.changed = true;
        }
        self.app.event(&ask(cx), Event::Heartbeat);
    }
}
