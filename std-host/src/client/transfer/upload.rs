//! A file to the server.

use std::path::Path;

use super::retry::Attempts;
use super::source::Source;
use super::{Event, Failed, Observer, Outcome, Transfer, TransferError};

/// A file to be sent.
#[derive(Debug, Clone, Copy)]
pub struct UploadFile<'a> {
    /// The local file.
    pub file: &'a Path,
    /// The directory on the server; empty for the root.
    pub dir: &'a str,
    /// The name there.
    pub name: &'a str,
    /// Make the directory if it is missing.
    pub make_dir: bool,
    /// Delete what the server holds under the name first.
    pub replace: bool,
}

impl<'a> UploadFile<'a> {
    /// `file` as `name` in the root, continued where the server stands.
    #[must_use]
    pub fn new(file: &'a Path, name: &'a str) -> Self {
        Self { file, dir: "", name, make_dir: false, replace: false }
    }
}

/// A file under way.
struct Sending {
    source: Source,
    attempts: Attempts,
    /// What comes before the first byte has been done.
    prepared: bool,
    outcome: Outcome,
    buffer: Vec<u8>,
}

impl Transfer {
    /// Sends one file, whole: what the server holds of it already is taken for its beginning.
    ///
    /// # Errors
    /// When the server refuses the file, the attempts are used up, or the local file fails or changes.
    pub async fn upload(
        &mut self,
        send: UploadFile<'_>,
        observe: &mut Observer<'_>,
    ) -> Result<Outcome, TransferError> {
        let source = Source::open(send.file).await?;
        let outcome = Outcome { size: source.size, resumed_from: 0, moved: 0, reconnects: 0 };
        let attempts = Attempts::new(self.options.retry);
        let first = self.first_connection();
        let mut sending =
            Sending { source, attempts, prepared: false, outcome, buffer: Vec::new() };
        loop {
            match self.upload_once(send, &mut sending, observe).await {
                Ok(()) => {
                    let reconnects = self.connections.saturating_sub(first);
                    return Ok(Outcome { reconnects, ..sending.outcome });
                }
                Err(failed) => self.again(failed, &mut sending.attempts, observe).await?,
            }
        }
    }

    async fn upload_once(
        &mut self,
        send: UploadFile<'_>,
        sending: &mut Sending,
        observe: &mut Observer<'_>,
    ) -> Result<(), Failed> {
        let packet = u64::from(self.options.packet);
        let Sending { source, attempts, prepared, outcome, buffer } = sending;
        let client = self.client().await?;
        if !*prepared {
            if send.make_dir {
                client.create_directories(send.dir).await?;
            }
            if send.replace {
                client.delete_file(send.dir, send.name).await?;
            }
        }
        let mut upload = client.upload(send.dir, send.name).await?;
        let (stored, size) = (upload.stored(), source.size);
        if !std::mem::replace(prepared, true) {
            outcome.resumed_from = stored;
        }
        if stored > size {
            let (path, name) = (source.path.clone(), send.name.to_owned());
            return Err(TransferError::LongerOnServer { path, name, stored, size }.into());
        }
        attempts.reached(stored);
        observe(Event::From { done: stored, size });
        let mut most = stored;
        let mut waiting = |done: u64| {
            most = done.max(most);
            observe(Event::Moved { done: most });
        };
        source.check(send.name).await?;
        source.seek(stored).await?;
        let mut offset = stored;
        while offset < size {
            let len = packet.min(size - offset);
            buffer.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
            source.read(buffer, send.name).await?;
            let before = upload.handed();
            let sent = upload.send(buffer, &mut waiting).await;
            outcome.moved += upload.handed() - before;
            sent?;
            offset += len;
            waiting(upload.delivered());
        }
        source.check(send.name).await?;
        upload.finish(Some(size), &mut waiting).await?;
        waiting(size);
        Ok(())
    }
}
