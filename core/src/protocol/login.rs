//! Login: who a session is. The same on every protocol that wants one.

use crate::app::{Answer, App, Digest, Event, Login};
use crate::command::{Code, Command};
use crate::server::Step;

use super::exchange::{Exchange, Outcome, Then};
use super::{Data, Flag, Pending, ask};

pub(super) fn serve<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    name: &str,
    command: &Command<'_>,
) -> Outcome {
    let (Some(user), Some(password)) = (command.get("UserName"), command.get("Password")) else {
        return exchange.fail(name, Code::PARAMETER, "Login needs UserName and Password");
    };
    if super::Iocp::<A>::FILES && exchange.state.marks.has_open() {
        // It was opened with the rights of who is logged in now.
        return exchange.fail(name, Code::IN_USE, "close the open file before the login");
    }
    if matches!(exchange.state.pending, Pending::Nothing) {
        let flag = exchange.state.flag.unwrap_or(Flag::Control);
        let answer = match Digest::from_hex(password) {
            Some(digest) => exchange.iocp.app.login(&ask(exchange.cx), flag, user, &digest),
            // No digest can be right, so nobody needs to be asked.
            None => Answer::Now(Login::Wrong),
        };
        match answer {
            Answer::Now(login) => exchange.state.pending = Pending::Login(login),
            Answer::Later => {
                exchange.state.pending = Pending::Asked;
                exchange.cx.changed = true;
                return Outcome::Wait(Step::App);
            }
        }
    }
    match &exchange.state.pending {
        Pending::Login(Login::Accepted(_)) => {
            exchange.succeed(name, |reply| reply, Data::Discard, Then::LoggedIn)
        }
        Pending::Login(Login::Refused(why)) => {
            let why = *why;
            failed(exchange, name, user, why)
        }
        _ => failed(exchange, name, user, ""),
    }
}

fn failed<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    name: &str,
    user: &str,
    why: &str,
) -> Outcome {
    let outcome = exchange.fail_then(name, Code::PASSWORD, why, Data::Discard, Then::LoginFailed);
    if matches!(outcome, Outcome::Reply { .. }) {
        let failures = exchange.state.failures.saturating_add(1);
        let event = Event::LoginFailed { name: user, failures };
        exchange.iocp.app.event(&ask(exchange.cx), event);
    }
    outcome
}
