//! What becomes of the data part of a packet: it is echoed, stored or thrown away, in pieces.

use crate::app::{Answer, App};
use crate::command::{Code, Reply};
use crate::server::{Context, Step};
use crate::socket::Socket;
use crate::store::{Outcome, Request, Store};

use super::{Data, Flow, Iocp, Pending, State, ask, nothing_to_read};

impl<A: App> Iocp<A> {
    /// Lets the current packet's data pass.
    pub(super) fn pass_data<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
    ) -> Flow {
        let most = (state.decoder.data_left() as usize).min(cx.budget);
        let moved = match state.data {
            Data::Echo => {
                let moved = socket.relay(most);
                self.work.echoed += moved as u64;
                moved
            }
            Data::Store if Self::FILES => {
                let bytes = socket.rx(1).bytes;
                let bytes = bytes.get(..most).unwrap_or(bytes);
                let taken = if bytes.is_empty() {
                    Answer::Now(0)
                } else {
                    self.app.store().write(&ask(cx), bytes)
                };
                match taken {
                    Answer::Now(taken) => {
                        let taken = taken.min(most);
                        socket.consume(taken);
                        self.work.stored += taken as u64;
                        taken
                    }
                    Answer::Later => return Flow::Stop(Step::App),
                }
            }
            Data::Discard | Data::Store => {
                let len = socket.rx(1).bytes.len().min(most);
                socket.consume(len);
                len
            }
        };
        state.decoder.pass(moved);
        cx.budget = cx.budget.saturating_sub(moved);
        if moved > 0 {
            return Flow::Go;
        }
        let rx = socket.rx(1);
        Flow::Stop(if rx.bytes.is_empty() { nothing_to_read(rx.end) } else { Step::Output })
    }

    /// All data of a `Write` has been handed over: asks what became of it, and answers.
    pub(super) fn finish_write<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
    ) -> Flow {
        let (Pending::Writing(spelling) | Pending::Confirmed(spelling)) = state.pending else {
            return Flow::Go;
        };
        if socket.room() < cx.scratch.len() {
            return Flow::Stop(Step::Output);
        }
        let ask = ask(cx);
        let answer = if matches!(state.pending, Pending::Confirmed(_)) {
            Answer::Now(self.app.store().answer(ask.id))
        } else {
            self.app.store().request(&ask, state.user.as_ref(), Request::Written)
        };
        let Answer::Now(outcome) = answer else {
            state.pending = Pending::Confirming(spelling);
            return Flow::Stop(Step::App);
        };
        let order = self.config.limits.order;
        let len = spelling.with(|name| match outcome {
            Outcome::Failed(code, message) => {
                Reply::failure(cx.scratch, name, code, message).finish(0, order)
            }
            Outcome::Value(count) => {
                Reply::new(cx.scratch, name, Code::OK).key("Count", count).finish(0, order)
            }
            _ => Reply::new(cx.scratch, name, Code::OK).finish(0, order),
        });
        socket.write(cx.scratch.get(..len.unwrap_or(0)).unwrap_or_default());
        self.work.commands += 1;
        state.pending = Pending::Nothing;
        Flow::Go
    }
}
