//! `pulsegate clients`: the server's client list as a table.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{Table, presets};

use super::password;
use crate::client::{Client, ClientRow, Flag};
use crate::text::printable;

/// A cell shows at most this many characters.
const CELL: usize = 48;

/// Shows who is connected to a server.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, as host:port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9999")]
    server: String,
    /// Log in as this operator.
    #[arg(long)]
    user: String,
    /// Read the password from the first line of standard input instead of asking for it.
    #[arg(long)]
    password_stdin: bool,
}

/// Logs in, fetches the list and prints it.
///
/// # Errors
/// When the server cannot be reached, or refuses the login or the list.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let password = password::read(&args.user, args.password_stdin).await?;
    let mut client = Client::connect(&args.server, Flag::Control).await?;
    client.login(&args.user, &password).await?;
    let rows = client.clients().await?;
    let mut out = io::stdout().lock();
    let table = table(&rows, out.is_terminal());
    match writeln!(out, "{table}\n{} connections", rows.len()) {
        // Whoever reads (`| head`) may have seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The rows with every text from the server escaped and cut; lines around cells for eyes only.
fn table(rows: &[ClientRow], lines: bool) -> Table {
    let mut table = Table::new();
    table.load_style(if lines { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    table.set_header(["remote", "protocol", "user", "connected", "last active", "local"]);
    for row in rows {
        let cells =
            [&row.remote, &row.protocol, &row.user, &row.connected, &row.last_active, &row.local];
        table.add_row(cells.map(|text| printable(text, CELL)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_reach_no_terminal() {
        let row = ClientRow {
            local: "127.0.0.1:9999".into(),
            remote: "127.0.0.1:50000".into(),
            protocol: "Control".into(),
            user: format!("\x1b[31mred\u{202e}{}", "x".repeat(1000)),
            connected: "+1.000".into(),
            last_active: "+2.000".into(),
        };
        for lines in [false, true] {
            let text = table(std::slice::from_ref(&row), lines).to_string();
            assert!(!text.contains(['\x1b', '\u{202e}']), "{text}");
            assert!(text.contains("\\u{1b}[31mred") && text.contains('…'), "{text}");
            assert!(text.lines().all(|line| line.chars().count() < 200), "{text}");
        }
    }
}
