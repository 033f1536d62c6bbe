//! What goes out in pieces after a reply's head: client lists, and what the store gives.

use crate::app::{Answer, App};
use crate::command::{Code, Reply};
use crate::server::{CloseReason, Context, Step};
use crate::socket::Socket;
use crate::store::Store;

use super::{Flow, Iocp, Pending, State, ask};

impl<A: App> Iocp<A> {
    /// Sends what there is room for of a frozen list.
    pub(super) fn stream_list<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
    ) -> Flow {
        let Pending::Streaming { sent, len } = &mut state.pending else {
            return Flow::Go;
        };
        while *sent < *len {
            let most = socket.room().min(cx.scratch.len()).min((*len - *sent) as usize);
            if most == 0 {
                return Flow::Stop(Step::Output);
            }
            if cx.budget == 0 {
                return Flow::Stop(Step::More);
            }
            let piece = cx.scratch.get_mut(..most).unwrap_or_default();
            let filled = self.app.read_list(cx.id, *sent, piece).min(most);
            if filled == 0 {
                return Flow::Stop(Step::Abort(CloseReason::AppFailed));
            }
            socket.write(piece.get(..filled).unwrap_or_default());
            // At most `len`, which is a u32.
            *sent += filled as u32;
            // The reader's patience begins anew.
            cx.changed = true;
            cx.budget = cx.budget.saturating_sub(filled);
        }
        state.pending = Pending::Nothing;
        cx.changed = true;
        self.app.release_list(cx.id);
        Flow::Go
    }

    /// Sends what there is room for of a list, a body or a download.
    pub(super) fn send<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
    ) -> Flow {
        loop {
            let Pending::Sending { left, packet } = state.pending else {
                return Flow::Go;
            };
            if left == 0 {
                let next = self.next_packet(cx, packet, socket);
                match next {
                    Ok(left) => state.pending = Pending::Sending { left, packet },
                    Err(Some(step)) => return Flow::Stop(step),
                    Err(None) => {
                        state.pending = Pending::Nothing;
                        return Flow::Go;
                    }
                }
                continue;
            }
            if cx.budget == 0 {
                return Flow::Stop(Step::More);
            }
            let most = (left as usize).min(cx.budget);
            let sent = match self.app.store().read(&ask(cx)) {
                Answer::Later => return Flow::Stop(Step::App),
                Answer::Now(None | Some([])) => {
                    return Flow::Stop(Step::Abort(CloseReason::AppFailed));
                }
                Answer::Now(Some(bytes)) => socket.pour(bytes.get(..most).unwrap_or(bytes)),
            };
            if sent == 0 {
                return Flow::Stop(Step::Output);
            }
            self.app.store().consume(cx.id, sent);
            self.work.sent += sent as u64;
            cx.budget = cx.budget.saturating_sub(sent);
            // At most `left`, which is a u32.
            state.pending = Pending::Sending { left: left - sent as u32, packet };
        }
    }

    /// Writes the head of a download's next packet, and says how much data it has; where there is
    /// none, `None` or what is to be waited for.
    fn next_packet<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        packet: u32,
        socket: &mut S,
    ) -> Result<u32, Option<Step>> {
        let remaining = if packet == 0 { 0 } else { self.app.store().remaining(cx.id) };
        if remaining == 0 {
            return Err(None);
        }
        // Below `packet`, if it is the smaller one.
        let len = remaining.min(packet.into()) as u32;
        let reply = Reply::new(cx.scratch, "Data", Code::OK);
        let head = reply_len(reply.finish(len as usize, self.config.limits.order));
        self.write_head(cx, head, socket)?;
        Ok(len)
    }

    /// Says how much a download has, before its first packet.
    pub(super) fn announce<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
    ) -> Flow {
        let Pending::Announcing { packet } = state.pending else {
            return Flow::Go;
        };
        let remaining = self.app.store().remaining(cx.id);
        let reply = Reply::new(cx.scratch, "SendFile", Code::OK).key("FileSize", remaining);
        let len = reply_len(reply.finish(0, self.config.limits.order));
        match self.write_head(cx, len, socket) {
            Ok(()) => {
                state.pending = Pending::Sending { left: 0, packet };
                Flow::Go
            }
            Err(step) => Flow::Stop(step.unwrap_or(Step::Abort(CloseReason::AppFailed))),
        }
    }

    /// Sends a head that stands in the scratch memory, whole or not at all.
    fn write_head<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        len: usize,
        socket: &mut S,
    ) -> Result<(), Option<Step>> {
        if cx.budget == 0 {
            return Err(Some(Step::More));
        }
        if socket.room() < len {
            return Err(Some(Step::Output));
        }
        socket.write(cx.scratch.get(..len).unwrap_or_default());
        cx.budget = cx.budget.saturating_sub(len);
        Ok(())
    }
}

/// Zero for a reply that the scratch memory does not hold; the server's memory holds these.
fn reply_len(reply: Result<usize, crate::command::ReplyTooLong>) -> usize {
    reply.unwrap_or(0)
}
