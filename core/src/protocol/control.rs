//! Control: the client list.

use crate::app::{App, Page};
use crate::command::{Code, Command};
use crate::server::Step;

use super::exchange::{Exchange, Outcome, Then};
use super::{Data, Pending};

pub(super) const TOO_LONG: &str =
    "the list is over the packet limit; ask for a part of it with Offset= and Limit=";

pub(super) fn serve<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    name: &str,
    command: &Command<'_>,
) -> Outcome {
    let Some(user) = &exchange.state.user else {
        return exchange.fail(name, Code::LOGIN_REQUIRED, "");
    };
    if !name.eq_ignore_ascii_case("GetClients") {
        return exchange.unknown_command(name);
    }
    if !exchange.iocp.app.may_list(user) {
        return exchange.fail(name, Code::UNKNOWN, "the client list is for operators");
    }
    get_clients(exchange, name, command)
}

fn get_clients<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    name: &str,
    command: &Command<'_>,
) -> Outcome {
    let number = |key, default| command.get(key).map_or(Ok(default), str::parse::<u32>);
    let (Ok(offset), Ok(limit)) = (number("Offset", 0), number("Limit", u32::MAX)) else {
        return exchange.fail(name, Code::PARAMETER, "Offset and Limit must be numbers");
    };
    let message = match exchange.state.pending {
        Pending::NoList(why) => why,
        Pending::Frozen(len) => {
            let id = exchange.cx.id;
            let outcome = exchange.succeed(name, |reply| reply, Data::Discard, Then::Stream(len));
            if let Outcome::Reply { then: Then::Stream(_), .. } | Outcome::Wait(_) = outcome {
                return outcome;
            }
            // Header and rows together are over the limit.
            exchange.iocp.app.release_list(id);
            TOO_LONG
        }
        _ => {
            // Others wait while a list is frozen, so it is not frozen for one who has no room for it.
            let outcome = exchange.succeed(name, |reply| reply, Data::Discard, Then::Go);
            if let Outcome::Wait(_) = outcome {
                return outcome;
            }
            exchange.iocp.page = Page { offset, limit };
            exchange.state.pending = Pending::Asked;
            return Outcome::Wait(Step::Survey);
        }
    };
    let outcome = exchange.fail(name, Code::UNKNOWN, message);
    if matches!(outcome, Outcome::Reply { .. }) {
        exchange.state.pending = Pending::Nothing;
    }
    outcome
}
