//! Upload: files to the server, resumed where an earlier connection ended.

use crate::app::{App, Event};
use crate::command::{Code, Command};
use crate::server::CloseReason;
use crate::store::{Names, Request};

use super::exchange::{Exchange, Outcome, Then};
use super::files::{self, Parsed, list, name, number, path};
use super::{Data, ask};

pub(super) fn serve<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    spelled: &str,
    command: &Command<'_>,
) -> Outcome {
    if spelled.eq_ignore_ascii_case("Data") {
        return data(exchange);
    }
    files::serve(exchange, spelled, read(spelled, command), 0)
}

/// Data has no reply: what is wrong with it is told at the end.
fn data<A: App>(exchange: &mut Exchange<'_, '_, A>) -> Outcome {
    if exchange.state.marks.has_open() {
        return Outcome::Reply { len: 0, data: Data::Store, then: Then::Go };
    }
    let message = "Data without an open file";
    let event = Event::BadPacket { code: Code::NOT_OPEN, message };
    exchange.iocp.app.event(&ask(exchange.cx), event);
    let then = Then::Close(CloseReason::BadPacket);
    Outcome::Reply { len: 0, data: Data::Discard, then }
}

fn read<'a>(spelled: &str, command: &Command<'a>) -> Option<Parsed<'a>> {
    let is = |name: &str| spelled.eq_ignore_ascii_case(name);
    if is("Upload") {
        Some(upload(command))
    } else if is("Eof") {
        let size = command
            .get("FileSize")
            .map(|_| number(command, "FileSize", "FileSize must be a number"));
        let size = size.transpose();
        Some(size.map(|size| Request::Eof { size }))
    } else if is("CreateDir") {
        Some(
            dir(command, "CreateDir needs ParentDir and DirName")
                .map(|(parent, name)| Request::CreateDir { parent, name }),
        )
    } else if is("DeleteDir") {
        Some(
            dir(command, "DeleteDir needs ParentDir and DirName")
                .map(|(parent, name)| Request::DeleteDir { parent, name }),
        )
    } else if is("DeleteFile") {
        Some(delete(command))
    } else {
        list(spelled, command)
    }
}

fn upload<'a>(command: &Command<'a>) -> Parsed<'a> {
    const NEEDS: &str = "Upload needs DirName and FileName";
    // Some clients spell the directory as the command that lists directories.
    let key = if command.get("DirName").is_some() { "DirName" } else { "Dir" };
    let dir = path(command, key, NEEDS)?;
    Ok(Request::Upload { dir, name: name(command, "FileName", NEEDS)? })
}

fn delete<'a>(command: &Command<'a>) -> Parsed<'a> {
    let dir = path(command, "DirName", "DeleteFile needs DirName and Item")?;
    let names = Names::of(*command).map_err(|error| error.message())?;
    Ok(Request::DeleteFiles { dir, names })
}

type Dir<'a> = (crate::path::Path<'a>, crate::path::Path<'a>);

fn dir<'a>(command: &Command<'a>, needs: &'static str) -> Result<Dir<'a>, &'static str> {
    Ok((path(command, "ParentDir", needs)?, name(command, "DirName", needs)?))
}
