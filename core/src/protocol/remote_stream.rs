//! RemoteStream: a file of the server as a stream that is read, written and moved about in.

use crate::app::App;
use crate::command::{Code, Command};
use crate::store::{Origin, Request};

use super::Data;
use super::exchange::{Exchange, Outcome, Then};
use super::files::{self, Parsed, name, number};

/// Most bytes of one reply.
const MOST: u32 = 1024 * 1024;

/// The command whose data arrives before it can be answered.
const WRITE: &str = "Write";

/// Which letters of `Write` the peer wrote as capitals: its command is gone when it is answered,
/// and must come back as it was spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling(u8);

impl Spelling {
    fn of(spelled: &str) -> Self {
        let bits = spelled
            .bytes()
            .rev()
            .fold(0, |bits, letter| bits << 1 | u8::from(letter.is_ascii_uppercase()));
        Self(bits)
    }

    /// Calls `then` with the command as it was spelled.
    pub(super) fn with<R>(self, then: impl FnOnce(&str) -> R) -> R {
        let mut letters = [0; WRITE.len()];
        for (index, (letter, byte)) in letters.iter_mut().zip(WRITE.bytes()).enumerate() {
            let is_capital = self.0 >> index & 1 == 1;
            *letter =
                if is_capital { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        }
        then(core::str::from_utf8(&letters).unwrap_or(WRITE))
    }
}

pub(super) fn serve<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    spelled: &str,
    command: &Command<'_>,
) -> Outcome {
    if spelled.eq_ignore_ascii_case(WRITE) {
        if !exchange.state.marks.has_open() {
            return exchange.fail(spelled, Code::NOT_OPEN, "no file is open");
        }
        let then = Then::Write(Spelling::of(spelled));
        return Outcome::Reply { len: 0, data: Data::Store, then };
    }
    files::serve(exchange, spelled, read(spelled, command), 0)
}

fn read<'a>(spelled: &str, command: &Command<'a>) -> Option<Parsed<'a>> {
    let is = |name: &str| spelled.eq_ignore_ascii_case(name);
    Some(if is("FileExists") {
        name(command, "FileName", "FileExists needs FileName").map(|name| Request::Exists { name })
    } else if is("OpenFile") {
        open(command)
    } else if is("SetSize") {
        number(command, "Size", "SetSize needs Size").map(Request::SetSize)
    } else if is("GetSize") {
        Ok(Request::GetSize)
    } else if is("SetPosition") {
        number(command, "Position", "SetPosition needs Position").map(Request::SetPosition)
    } else if is("GetPosition") {
        Ok(Request::GetPosition)
    } else if is("Read") {
        let count = number(command, "Count", "Read needs Count").and_then(|count| {
            if count > MOST { Err("Count must be at most 1048576") } else { Ok(count) }
        });
        count.map(|count| Request::Read { count })
    } else if is("Seek") {
        seek(command)
    } else if is("CloseFile") {
        Ok(Request::Close)
    } else {
        return None;
    })
}

fn open<'a>(command: &Command<'a>) -> Parsed<'a> {
    const NEEDS: &str = "OpenFile needs FileName and Mode, 0 to read or 1 to read and write";
    let name = name(command, "FileName", NEEDS)?;
    match number(command, "Mode", NEEDS)? {
        mode @ 0..=1u32 => Ok(Request::Open { name, write: mode == 1 }),
        _ => Err(NEEDS),
    }
}

fn seek<'a>(command: &Command<'a>) -> Parsed<'a> {
    const NEEDS: &str = "Seek needs Offset and SeekOrigin, 0 begin, 1 current, 2 end";
    let offset = number(command, "Offset", NEEDS)?;
    let origin = match number(command, "SeekOrigin", NEEDS)? {
        0u32 => Origin::Begin,
        1 => Origin::Current,
        2 => Origin::End,
        _ => return Err(NEEDS),
    };
    Ok(Request::Seek { offset, origin })
}
