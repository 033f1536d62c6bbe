//! A file from the server.

use std::path::Path;

use super::part::Part;
use super::retry::Attempts;
use super::{Event, Failed, Observer, Outcome, Transfer, TransferError};
use crate::client::{Client, ClientError};

/// The result code of an offset beyond the file's end, among others.
const PARAMETER: u32 = 6;

/// A file to be fetched.
#[derive(Debug, Clone, Copy)]
pub struct DownloadFile<'a> {
    /// The directory on the server; empty for the root.
    pub dir: &'a str,
    /// The name there.
    pub name: &'a str,
    /// The local file; `.part` is added to its name until it is whole.
    pub output: &'a Path,
    /// Replace a local file that exists.
    pub force: bool,
}

/// A file under way.
struct Fetching {
    part: Part,
    attempts: Attempts,
    /// The file's bytes as the first answer told.
    size: Option<u64>,
    outcome: Outcome,
}

impl Transfer {
    /// Fetches one file, whole: continues an unfinished one.
    ///
    /// # Errors
    /// When the server refuses the file, the attempts are used up, or the local file fails.
    pub async fn download(
        &mut self,
        fetch: DownloadFile<'_>,
        observe: &mut Observer<'_>,
    ) -> Result<Outcome, TransferError> {
        if !fetch.force && fetch.output.symlink_metadata().is_ok() {
            return Err(TransferError::Exists { path: fetch.output.to_owned() });
        }
        let part = Part::open(fetch.output).await?;
        let attempts = Attempts::new(self.options.retry);
        let outcome = Outcome { size: 0, resumed_from: 0, moved: 0, reconnects: 0 };
        let mut fetching = Fetching { part, attempts, size: None, outcome };
        let first = self.first_connection();
        let done = self.download_all(fetch, &mut fetching, observe).await;
        let Fetching { part, mut outcome, .. } = fetching;
        if let Err(error) = done {
            part.forget_if_empty().await;
            return Err(error);
        }
        part.finish(outcome.size, fetch.output, fetch.force).await?;
        outcome.reconnects = self.connections.saturating_sub(first);
        Ok(outcome)
    }

    async fn download_all(
        &mut self,
        fetch: DownloadFile<'_>,
        fetching: &mut Fetching,
        observe: &mut Observer<'_>,
    ) -> Result<(), TransferError> {
        loop {
            match self.download_once(fetch, fetching, observe).await {
                Ok(()) => return Ok(()),
                Err(failed) => self.again(failed, &mut fetching.attempts, observe).await?,
            }
        }
    }

    async fn download_once(
        &mut self,
        fetch: DownloadFile<'_>,
        fetching: &mut Fetching,
        observe: &mut Observer<'_>,
    ) -> Result<(), Failed> {
        let packet = self.options.packet;
        let Fetching { part, attempts, size, outcome } = fetching;
        let other_file = |path: &Path, why| {
            let (path, name) = (path.to_owned(), fetch.name.to_owned());
            Failed::Final(TransferError::OtherFile { path, name, why })
        };
        let client = self.client().await?;
        let (held, tail) = part.end().await?;
        let from = held - tail.len() as u64;
        let mut download = match client.download(fetch.dir, fetch.name, from, packet).await {
            Err(error @ ClientError::Refused { code: PARAMETER, .. }) if from > 0 => {
                return Err(match is_shorter(client, fetch, from).await? {
                    true => other_file(&part.path, ", which is shorter"),
                    false => error.into(),
                });
            }
            asked => asked?,
        };
        let whole = from.saturating_add(download.remaining());
        if whole < held {
            return Err(other_file(&part.path, ", which is shorter"));
        }
        if size.is_none() {
            outcome.resumed_from = held;
        } else if *size != Some(whole) {
            return Err(other_file(&part.path, " any more: that changed while it was fetched"));
        }
        *size = Some(whole);
        outcome.size = whole;
        attempts.reached(held);
        observe(Event::From { done: held, size: whole });
        let mut tail = &*tail;
        while let Some(mut data) = download.next().await? {
            outcome.moved += data.len() as u64;
            let again = tail.len().min(data.len());
            if tail[..again] != data[..again] {
                return Err(other_file(&part.path, ", which differs"));
            }
            tail = &tail[again..];
            data = &data[again..];
            part.append(data).await?;
            observe(Event::Moved { done: held.max(whole - download.remaining()) });
        }
        Ok(())
    }
}

/// Whether the server lists the file with less than `from` bytes: it would refuse the offset without
/// saying why. A name with directories in it is in no list.
async fn is_shorter(
    client: &mut Client,
    fetch: DownloadFile<'_>,
    from: u64,
) -> Result<bool, ClientError> {
    let files = client.files(fetch.dir).await?;
    Ok(files.iter().any(|file| file.name == fetch.name && file.size < from))
}
