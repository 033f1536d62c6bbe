//! The IOCPDemo protocol: one flag byte names a protocol, packets of commands and data follow.
//!
//! This module reads the flag and the packets and knows what all packet protocols share; each
//! protocol's own commands are in its own file.

mod config;
mod control;
mod download;
mod exchange;
mod files;
mod heartbeats;
mod log_output;
mod login;
mod remote_stream;
mod sending;
mod state;
mod storing;
mod throughput;
mod upload;

use embassy_time::{Duration, Instant};

use crate::app::{Answer, App, Ask, Event, List, Login, Page};
use crate::command::Code;
use crate::frame::{HEADER_LEN, Step as FrameStep};
use crate::roster::Row;
use crate::server::{CloseReason, Closed, Context, Protocol, Session, Step, Timers};
use crate::session::saturating;
use crate::socket::{End, Socket};
use crate::store::Store;
use crate::table::SessionId;
pub use config::{Access, Flag, IocpConfig};
use exchange::{Exchange, Outcome, Then};
pub use state::State;
use state::{Data, Marks, Pending};

/// The application's answer to a question of this protocol.
#[derive(Debug, Clone)]
pub enum Reply<U> {
    /// To a login.
    Login(Login<U>),
    /// To a request for the client list.
    List(List),
    /// The store has done what it was asked for, and keeps the result until it is taken.
    Store,
}

/// Work of this protocol since the server began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Commands answered, heartbeats included.
    pub commands: u64,
    /// Heartbeats answered.
    pub heartbeats: u64,
    /// Logins accepted.
    pub logins: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Bytes of data parts passed back.
    pub echoed: u64,
    /// Bytes of data parts handed to the store.
    pub stored: u64,
    /// Bytes that the store gave, sent.
    pub sent: u64,
}

/// The IOCPDemo protocol in front of an application.
#[derive(Debug)]
pub struct Iocp<A> {
    config: IocpConfig,
    work: Work,
    /// The page that the survey under way is for.
    page: Page,
    app: A,
}

/// Whether the loop over a session's input goes on.
enum Flow {
    Go,
    Stop(Step),
}

impl<A: App> Iocp<A> {
    /// Whether there is a store. Where there is none, nothing of what serves it is compiled.
    const FILES: bool = <A::Store as Store<A::Address, A::User>>::ON;

    /// The protocol with these settings in front of `app`.
    pub const fn new(config: IocpConfig, app: A) -> Self {
        let work = Work {
            commands: 0,
            heartbeats: 0,
            logins: 0,
            login_failures: 0,
            echoed: 0,
            stored: 0,
            sent: 0,
        };
        Self { config, work, page: Page { offset: 0, limit: u32::MAX }, app }
    }

    /// The application.
    pub const fn app(&self) -> &A {
        &self.app
    }

    /// The application to change.
    pub const fn app_mut(&mut self) -> &mut A {
        &mut self.app
    }

    /// What has been done.
    pub const fn work(&self) -> &Work {
        &self.work
    }

    /// What a session of this protocol begins with; `None` if the protocol is switched off.
    fn begin(&mut self, ask: &Ask<A::Address>, flag: Flag) -> Option<Pending<A::User>> {
        let config = &self.config;
        let is_on = match flag {
            Flag::Control => true,
            Flag::Throughput => config.throughput_idle.is_some(),
            Flag::Upload => Self::FILES && config.upload_idle.is_some(),
            Flag::Download => Self::FILES && config.download_idle.is_some(),
            Flag::RemoteStream => Self::FILES && config.remote_stream != Access::Off,
            Flag::LogOutput => return self.app.open_log(ask).map(Pending::Following),
        };
        is_on.then_some(Pending::Nothing)
    }

    fn read_flag<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
    ) -> Flow {
        let rx = socket.rx(1);
        let Some(&byte) = rx.bytes.first() else {
            return Flow::Stop(nothing_to_read(rx.end));
        };
        socket.consume(1);
        let begun =
            Flag::from_byte(byte).and_then(|flag| Some((flag, self.begin(&ask(cx), flag)?)));
        let Some((flag, pending)) = begun else {
            self.app.event(&ask(cx), Event::BadFlag { flag: byte });
            return Flow::Stop(Step::Close(CloseReason::BadFlag));
        };
        state.flag = Some(flag);
        state.pending = pending;
        cx.changed = true;
        self.app.event(&ask(cx), Event::Opened { flag });
        Flow::Go
    }

    /// Whether a session of this protocol gets anywhere without a login.
    fn wants_login(&self, flag: Option<Flag>) -> bool {
        match flag {
            Some(Flag::Control | Flag::Upload | Flag::Download) => true,
            Some(Flag::RemoteStream) => self.config.remote_stream != Access::Open,
            _ => false,
        }
    }

    /// Serves the packet at the front of the input, once its header and command are there.
    fn read_packet<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
    ) -> Flow {
        let rx = socket.rx(heartbeats::REQUEST_LEN);
        if rx.bytes.is_empty() {
            return Flow::Stop(nothing_to_read(rx.end));
        }
        let beats = self.heartbeats_at_front(cx, rx.bytes);
        let room = socket.room();
        if beats > 0 && self.answer_heartbeats(cx, state, socket, beats, room) {
            return Flow::Go;
        }
        let mut want = HEADER_LEN;
        loop {
            let rx = socket.rx(want);
            let (head_len, data_len, outcome) =
                match state.decoder.look(rx.bytes, &self.config.limits) {
                    Ok(FrameStep::Packet(packet)) => {
                        let mut exchange =
                            Exchange { iocp: self, cx, state, room, data_len: packet.data_len };
                        (packet.head_len(), packet.data_len, exchange.serve(packet.command))
                    }
                    Ok(FrameStep::Need(more)) if more > want => {
                        want = more;
                        continue;
                    }
                    Ok(FrameStep::Need(_) | FrameStep::Data(_)) => {
                        return Flow::Stop(nothing_to_read(rx.end));
                    }
                    Err(error) => {
                        let mut exchange = Exchange { iocp: self, cx, state, room, data_len: 0 };
                        (0, 0, exchange.refuse_packet(Code::LENGTH, error.message()))
                    }
                };
            return self.commit(cx, state, socket, head_len, data_len, outcome);
        }
    }

    /// Consumes what has been served, sends the reply, and lets its consequences happen.
    fn commit<S: Socket>(
        &mut self,
        cx: &mut Context<'_, A::Address>,
        state: &mut State<A::User>,
        socket: &mut S,
        head_len: usize,
        data_len: u32,
        outcome: Outcome,
    ) -> Flow {
        let (reply_len, data, then) = match outcome {
            Outcome::Wait(step) => return Flow::Stop(step),
            Outcome::Reply { len, data, then } => (len, data, then),
        };
        socket.consume(head_len);
        cx.budget = cx.budget.saturating_sub(head_len);
        socket.write(cx.scratch.get(..reply_len).unwrap_or_default());
        state.decoder.begin(data_len);
        state.data = data;
        self.work.commands += u64::from(reply_len > 0);
        match then {
            Then::Go => Flow::Go,
            Then::Close(reason) => Flow::Stop(Step::Close(reason)),
            Then::LoggedIn => {
                if let Pending::Login(Login::Accepted(user)) =
                    core::mem::replace(&mut state.pending, Pending::Nothing)
                {
                    self.work.logins += 1;
                    self.app.event(&ask(cx), Event::LoggedIn { user: &user });
                    state.user = Some(user);
                    cx.changed = true;
                }
                Flow::Go
            }
            Then::LoginFailed => {
                state.pending = Pending::Nothing;
                cx.changed = true;
                state.failures = state.failures.saturating_add(1);
                self.work.login_failures += 1;
                if state.failures >= self.config.login_failures {
                    Flow::Stop(Step::Close(CloseReason::LoginFailures))
                } else {
                    Flow::Go
                }
            }
            Then::Stream(len) => {
                state.pending = Pending::Streaming { sent: 0, len };
                cx.changed = true;
                Flow::Go
            }
            Then::Open(open) => {
                state.marks.set_open(open);
                cx.changed = true;
                Flow::Go
            }
            Then::Write(spelling) => {
                state.pending = Pending::Writing(spelling);
                Flow::Go
            }
            Then::Announce(packet) => {
                state.pending = Pending::Announcing { packet };
                Flow::Go
            }
            Then::Text(left) | Then::Body(left) => {
                state.pending = Pending::Sending { left, packet: 0 };
                Flow::Go
            }
        }
    }
}

/// What to do when a session's input is at its end for now, or for good.
fn nothing_to_read(end: End) -> Step {
    match end {
        End::Open => Step::Input,
        End::Finished => Step::Close(CloseReason::PeerClosed),
        End::Failed => Step::Abort(CloseReason::PeerReset),
    }
}

fn ask<A: Copy>(cx: &Context<'_, A>) -> Ask<A> {
    Ask { now: cx.now, id: cx.id, job: cx.job, local: cx.local, remote: cx.remote }
}

impl<A: App> Protocol for Iocp<A> {
    type Address = A::Address;
    type State = State<A::User>;
    type User = A::User;
    type Answer = Reply<A::User>;

    fn open(&mut self, _now: Instant) -> Self::State {
        State::new()
    }

    fn timers(&self, state: &Self::State, connected_at: Instant, now: Instant) -> Timers {
        let config = &self.config;
        let fixed = |after: Duration, reason| Some((saturating(connected_at, after), reason));
        let silence = match state.flag {
            None => {
                let fixed = fixed(config.flag_timeout, CloseReason::NoFlag);
                return Timers { fixed, silence: None };
            }
            Some(Flag::Control) => Some(config.control_idle),
            Some(Flag::Throughput) => config.throughput_idle,
            Some(Flag::Upload) => config.upload_idle,
            Some(Flag::Download) => config.download_idle,
            Some(Flag::RemoteStream) => Some(config.remote_stream_idle),
            Some(Flag::LogOutput) => config.log_idle,
        };
        let fixed = match (&state.pending, config.login_timeout) {
            // While a list is on its way, the state changes when some of it has moved.
            (Pending::Streaming { .. }, _) => {
                Some((saturating(now, config.list_timeout), CloseReason::SlowReader))
            }
            // An answered login is in time, even if its reply has to wait for room.
            (Pending::Login(_), _) => None,
            (_, Some(after)) if state.user.is_none() && self.wants_login(state.flag) => {
                fixed(after, CloseReason::NoLogin)
            }
            _ => None,
        };
        Timers { fixed, silence }
    }

    fn drive<S: Socket>(
        &mut self,
        cx: &mut Context<'_, Self::Address>,
        state: &mut Self::State,
        socket: &mut S,
    ) -> Step {
        loop {
            let flow = match state.pending {
                Pending::Asked | Pending::Confirming(_) => Flow::Stop(Step::App),
                Pending::Streaming { .. } => self.stream_list(cx, state, socket),
                Pending::Following(_) => self.follow_log(cx, state, socket),
                Pending::Announcing { .. } if Self::FILES => self.announce(cx, state, socket),
                Pending::Sending { .. } if Self::FILES => self.send(cx, state, socket),
                _ if cx.budget == 0 => Flow::Stop(Step::More),
                _ if state.flag.is_none() => self.read_flag(cx, state, socket),
                _ if state.decoder.data_left() > 0 => self.pass_data(cx, state, socket),
                Pending::Writing(_) | Pending::Confirmed(_) if Self::FILES => {
                    self.finish_write(cx, state, socket)
                }
                _ => self.read_packet(cx, state, socket),
            };
            if let Flow::Stop(step) = flow {
                return step;
            }
        }
    }

    fn answer(&mut self, state: &mut Self::State, answer: Self::Answer) {
        state.pending = match answer {
            Reply::Login(login) => Pending::Login(login),
            Reply::List(List::Frozen(len)) => Pending::Frozen(len),
            Reply::List(List::TooLong) => Pending::NoList(control::TOO_LONG),
            Reply::List(List::Failed(why)) => Pending::NoList(why),
            Reply::List(List::Retry) => Pending::Retry,
            Reply::Store => match state.pending {
                Pending::Asked => Pending::Answered,
                Pending::Confirming(spelling) => Pending::Confirmed(spelling),
                // More room, or more to send: what was under way goes on.
                _ => return,
            },
        };
    }

    fn survey<'a>(
        &mut self,
        ask: &Ask<Self::Address>,
        sessions: &mut dyn Iterator<Item = (SessionId, &'a Session<Self>)>,
    ) -> Option<Self::Answer>
    where
        Self: 'a,
    {
        let mut rows = sessions.map(|(_, session)| row(session));
        match self.app.freeze_list(ask, self.page, &mut rows) {
            // To ask again at once would be to ask for ever.
            Answer::Now(List::Retry) => Some(Reply::List(List::Failed("the client list is busy"))),
            Answer::Now(list) => Some(Reply::List(list)),
            Answer::Later => None,
        }
    }

    fn is_newcomer(&self, state: &Self::State) -> bool {
        match state.flag {
            None => true,
            Some(Flag::Throughput | Flag::LogOutput) => false,
            Some(_) => {
                state.user.is_none()
                    && state.marks == Marks::NONE
                    && matches!(state.pending, Pending::Nothing)
            }
        }
    }

    fn is_mid_reply(&self, state: &Self::State) -> bool {
        // Between two packets of a download, too: its length has been announced.
        matches!(
            state.pending,
            Pending::Streaming { .. }
                | Pending::Announcing { .. }
                | Pending::Sending { left: 1.., .. }
                | Pending::Sending { packet: 1.., .. }
        ) || (state.data == Data::Echo && state.decoder.data_left() > 0)
    }

    fn user<'a>(&self, state: &'a Self::State) -> Option<&'a Self::User> {
        state.user.as_ref()
    }

    fn closed(&mut self, closed: &Closed<Self>, state: &mut Self::State) {
        match state.pending {
            // A question for the list may stand in line; releasing what one does not hold is harmless.
            Pending::Asked
            | Pending::Frozen(_)
            | Pending::NoList(_)
            | Pending::Retry
            | Pending::Streaming { .. } => self.app.release_list(closed.id),
            _ => {}
        }
        if Self::FILES
            && matches!(state.flag, Some(Flag::Upload | Flag::Download | Flag::RemoteStream))
        {
            self.app.store().release(closed.id);
        }
        self.app.closed(closed);
    }
}

/// A session as a row of the client list.
pub fn row<A: App>(session: &Session<Iocp<A>>) -> Row<'_, A::Address, A::User> {
    Row {
        local: session.local(),
        remote: session.remote(),
        flag: session.state().flag.map_or("", Flag::name),
        user: session.state().user(),
        connected_at: session.connected_at(),
        last_active: session.last_active(),
    }
}
