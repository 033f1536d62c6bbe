//! Throughput: data sent back as it came, to measure a link. No login.

use crate::app::App;
use crate::command::{Code, Command};

use super::Data;
use super::exchange::{Exchange, Outcome, Then};

pub(super) fn serve<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    name: &str,
    command: &Command<'_>,
) -> Outcome {
    if !name.eq_ignore_ascii_case("CyclePacket") {
        return exchange.unknown_command(name);
    }
    match command.get("Count").and_then(|count| count.parse::<i32>().ok()) {
        Some(count) => exchange.succeed(
            name,
            |reply| reply.number("Count", count.wrapping_add(1)),
            Data::Echo,
            Then::Go,
        ),
        None => exchange.fail_then(
            name,
            Code::PARAMETER,
            "Count must be a number of 32 bits",
            Data::Echo,
            Then::Go,
        ),
    }
}
