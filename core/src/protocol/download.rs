//! Download: files from the server, from an offset on, in packets of a size that the client picks.

use crate::app::App;
use crate::command::Command;
use crate::store::Request;

use super::exchange::{Exchange, Outcome};
use super::files::{self, list, name, number, path};

/// Largest data part of a packet that a client may ask for.
const MOST: u32 = 1024 * 1024;

pub(super) fn serve<A: App>(
    exchange: &mut Exchange<'_, '_, A>,
    spelled: &str,
    command: &Command<'_>,
) -> Outcome {
    if !spelled.eq_ignore_ascii_case("Download") {
        return files::serve(exchange, spelled, list(spelled, command), 0);
    }
    match download(command) {
        Ok((request, packet)) => files::serve(exchange, spelled, Some(Ok(request)), packet),
        Err(message) => files::serve(exchange, spelled, Some(Err(message)), 0),
    }
}

fn download<'a>(command: &Command<'a>) -> Result<(Request<'a>, u32), &'static str> {
    const NEEDS: &str = "Download needs DirName, FileName, FileSize and PacketSize";
    let dir = path(command, "DirName", NEEDS)?;
    let name = name(command, "FileName", NEEDS)?;
    let offset = number(command, "FileSize", NEEDS)?;
    let packet = number(command, "PacketSize", NEEDS)?;
    if !(1..=MOST).contains(&packet) {
        return Err("PacketSize must be from 1 to 1048576");
    }
    Ok((Request::Download { dir, name, offset }, packet))
}
