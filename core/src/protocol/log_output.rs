//! LogOutput: the server's log as lines of text, for a plain telnet client. No packets, no login.

use crate::app::App;
use crate::server::{CloseReason, Context, Step};
use crate::socket::{End, Socket};

use super::{Flow, Iocp, Pending, State, nothing_to_read};

/// Told to whoever presses a key.
const BANNER: &[u8] = b"this is the server's log as it is written; ESC ends it\r\n";

/// The key that ends it.
const ESCAPE: u8 = 27;

impl<A: App> Iocp<A> {
    /// Sends what is new, and listens for keys.
    pub(super) fn follow_log<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
    ) -> Flow {
        let Pending::Following(reader) = &mut state.pending else {
            return Flow::Go;
        };
        let end = loop {
            let rx = socket.rx(1);
            let (keys, end) = (rx.bytes, rx.end);
            let len = keys.len();
            if len == 0 {
                break end;
            }
            if keys.contains(&ESCAPE) {
                socket.consume(len);
                return Flow::Stop(Step::Close(CloseReason::PeerClosed));
            }
            socket.consume(len);
            cx.budget = cx.budget.saturating_sub(len);
            // Keys pressed faster than the answers are read are not owed one.
            if socket.room() >= BANNER.len() {
                socket.write(BANNER);
            }
            if cx.budget == 0 {
                return Flow::Stop(Step::More);
            }
        };
        if end != End::Open {
            return Flow::Stop(nothing_to_read(end));
        }
        loop {
            let most = socket.room().min(cx.scratch.len());
            let piece = cx.scratch.get_mut(..most).unwrap_or_default();
            let len = match self.app.read_log(cx.id, reader, piece) {
                None => return Flow::Stop(Step::Input),
                Some(0) => return Flow::Stop(Step::Output),
                Some(len) => len.min(most),
            };
            socket.write(piece.get(..len).unwrap_or_default());
            cx.budget = cx.budget.saturating_sub(len);
            if cx.budget == 0 {
                return Flow::Stop(Step::More);
            }
        }
    }
}
