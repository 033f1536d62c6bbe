//! What Upload, Download and RemoteStream share: a command becomes a request to the store, and the
//! store's outcome a reply.

use crate::app::{Answer, App};
use crate::command::{Code, Command};
use crate::path::Path;
use crate::server::Step;
use crate::store::{self, Request, Store};

use super::exchange::{Exchange, Outcome, Then};
use super::{Data, Pending, ask};

/// A request, or why the command is none: the text for its failure.
pub(super) type Parsed<'a> = Result<Request<'a>, &'static str>;

/// The path under a key that must be there; `needs` is the text for one that is not.
pub(super) fn path<'a>(
    command: &Command<'a>,
    key: &str,
    needs: &'static str,
) -> Result<Path<'a>, &'static str> {
    Path::parse(command.get(key).ok_or(needs)?).map_err(|error| error.message())
}

/// The same for one that must name something.
pub(super) fn name<'a>(
    command: &Command<'a>,
    key: &str,
    needs: &'static str,
) -> Result<Path<'a>, &'static str> {
    Path::parse_name(command.get(key).ok_or(needs)?).map_err(|error| error.message())
}

/// The number under a key that must be there.
pub(super) fn number<T: core::str::FromStr>(
    command: &Command<'_>,
    key: &str,
    needs: &'static str,
) -> Result<T, &'static str> {
    // The library's parser takes a plus sign, which is no digit.
    let text = command.get(key).filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(needs)
}

/// `Dir` and `FileList`, which Upload and Download both have.
pub(super) fn list<'a>(name: &str, command: &Command<'a>) -> Option<Parsed<'a>> {
    if name.eq_ignore_ascii_case("Dir") {
        let parent = path(command, "ParentDir", "Dir needs ParentDir");
        Some(parent.map(|parent| Request::Dirs { parent }))
    } else if name.eq_ignore_ascii_case("FileList") {
        let dir = path(command, "DirName", "FileList needs DirName");
        Some(dir.map(|dir| Request::Files { dir }))
    } else {
        None
    }
}

/// Serves a command that has been read: `packet` is the size of a download's packets.
pub(super) fn serve<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    name: &str,
    parsed: Option<Parsed<'_>>,
    packet: u32,
) -> Outcome {
    let request = match parsed {
        None => return exchange.unknown_command(name),
        Some(Err(message)) => return exchange.fail(name, Code::PARAMETER, message),
        Some(Ok(request)) => request,
    };
    if needs_open(&request) && !exchange.state.marks.has_open() {
        return exchange.fail(name, Code::NOT_OPEN, "no file is open");
    }
    let outcome = match consult(exchange, &request) {
        Ok(outcome) => outcome,
        Err(step) => return Outcome::Wait(step),
    };
    let opens = match request {
        Request::Upload { .. } | Request::Open { .. } => Some(true),
        Request::Eof { .. } | Request::Close => Some(false),
        _ => None,
    };
    let then = opens.map_or(Then::Go, Then::Open);
    match outcome {
        store::Outcome::Failed(code, message) => {
            // What had been open before is closed in any case.
            let then = opens.map_or(Then::Go, |_| Then::Open(false));
            exchange.fail_then(name, code, message, Data::Discard, then)
        }
        store::Outcome::Done => exchange.succeed(name, |reply| reply, Data::Discard, then),
        store::Outcome::Value(_) if matches!(request, Request::Download { .. }) => {
            exchange.succeed(name, |reply| reply, Data::Discard, Then::Announce(packet))
        }
        store::Outcome::Value(value) => {
            let key = key_of(&request);
            exchange.succeed(name, |reply| reply.key(key, value), Data::Discard, then)
        }
        store::Outcome::List(len) => {
            exchange.succeed(name, |reply| reply, Data::Discard, Then::Text(len))
        }
        store::Outcome::Body(len) => {
            exchange.succeed(name, |reply| reply.key("Count", len), Data::Discard, Then::Body(len))
        }
    }
}

/// Asks the store, or takes its answer. A request may not be carried out twice, so it waits until
/// there is room for whatever the reply will be.
fn consult<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    request: &Request<'_>,
) -> Result<store::Outcome, Step> {
    if exchange.room < exchange.cx.scratch.len() {
        return Err(Step::Output);
    }
    let ask = ask(exchange.cx);
    let store = exchange.iocp.app.store();
    if matches!(exchange.state.pending, Pending::Answered) {
        exchange.state.pending = Pending::Nothing;
        return Ok(store.answer(ask.id));
    }
    match store.request(&ask, exchange.state.user.as_ref(), *request) {
        Answer::Now(outcome) => Ok(outcome),
        Answer::Later => {
            exchange.state.pending = Pending::Asked;
            Err(Step::App)
        }
    }
}

const fn needs_open(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Eof { .. }
            | Request::SetSize(_)
            | Request::GetSize
            | Request::SetPosition(_)
            | Request::GetPosition
            | Request::Read { .. }
            | Request::Seek { .. }
            | Request::Close
    )
}

/// Under which key a reply tells the number that was asked for.
const fn key_of(request: &Request<'_>) -> &'static str {
    match request {
        Request::GetSize => "Size",
        Request::GetPosition => "Position",
        Request::Seek { .. } => "Offset",
        _ => "FileSize",
    }
}
