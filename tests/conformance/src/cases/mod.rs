//! The cases, by theme.

mod command;
mod control;
mod download;
mod files;
mod folders;
mod framing;
mod idle;
mod lifecycle;
mod log_output;
mod login;
mod paths;
mod remote_access;
mod remote_stream;
mod resume;
mod rows;
mod store;
mod throughput;
mod timing;
mod upload;
mod vectors;

use std::sync::LazyLock;

use crate::failure::Outcome;
use crate::target::Target;

/// One script.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Theme and rule.
    pub name: &'static str,
    /// Section of the protocol description that states the rule.
    pub section: &'static str,
    /// Whether the case needs the server for itself: it counts connections, or its failed logins may slow others.
    pub exclusive: bool,
    /// The script.
    pub run: fn(&mut dyn Target) -> Outcome,
}

impl Case {
    const fn new(
        name: &'static str,
        section: &'static str,
        run: fn(&mut dyn Target) -> Outcome,
    ) -> Self {
        Self { name, section, exclusive: false, run }
    }

    const fn alone(self) -> Self {
        Self { exclusive: true, ..self }
    }
}

/// All cases. The slow ones come first: running beside the others, they decide how long a run takes.
pub fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        [
            timing::CASES,
            idle::CASES,
            log_output::CASES,
            vectors::CASES,
            framing::CASES,
            command::CASES,
            login::CASES,
            control::CASES,
            throughput::CASES,
            lifecycle::CASES,
            files::CASES,
            upload::CASES,
            resume::CASES,
            folders::CASES,
            paths::CASES,
            download::CASES,
            remote_stream::CASES,
            remote_access::CASES,
        ]
        .concat()
    });
    &CASES
}
