//! Where a command gets a password from: never from its arguments, which others can see.

use std::io::BufRead;

use anyhow::Context;

use crate::text::printable;

/// A longer first line is no password.
const MAX_BYTES: u64 = 1024;

/// The password of `user`: the first line of standard input, or asked for without echo.
pub(super) async fn read(user: &str, from_stdin: bool) -> anyhow::Result<String> {
    let prompt = format!("Password of {}: ", printable(user, 64));
    // Both block, and the runtime's thread has timers to keep.
    let reading = tokio::task::spawn_blocking(move || {
        if from_stdin {
            first_line(std::io::stdin().lock())
                .context("cannot read the password from standard input")
        } else {
            rpassword::prompt_password(prompt)
                .context("cannot ask for the password here; pass it with --password-stdin")
        }
    });
    reading.await?
}

fn first_line(input: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.take(MAX_BYTES + 1).read_line(&mut line)?;
    anyhow::ensure!(line.len() as u64 <= MAX_BYTES, "more than {MAX_BYTES} bytes in a line");
    let password = line.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!password.is_empty(), "the first line is empty");
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::first_line;

    #[test]
    fn one_line_without_its_end() {
        assert_eq!(first_line(&b"se cret \r\nmore"[..]).unwrap(), "se cret ");
        assert_eq!(first_line(&b"x"[..]).unwrap(), "x");
        assert!(first_line(&b"\n"[..]).is_err());
        assert!(first_line(&b""[..]).is_err());
        assert!(first_line(&vec![b'a'; 5000][..]).is_err());
    }
}
