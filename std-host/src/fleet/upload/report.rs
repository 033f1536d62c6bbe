//! What uploaders count, and what is said of it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::UploadConfig;
use crate::fleet::report::row;
use crate::fleet::stats::Counter;

/// The first so many failures are kept in words.
const FINDINGS: usize = 10;

/// Live counters of a fleet's uploaders.
#[derive(Debug, Default)]
pub struct UploadStats {
    /// Files whose end the server has acknowledged.
    pub completed: Counter,
    /// Of these: fetched again and found to be what was sent.
    pub verified: Counter,
    /// Bytes of files that sockets have taken.
    pub sent: Counter,
    /// Connections that lost their signal: they stay open and silent.
    pub cut_silent: Counter,
    /// Connections that were closed in order in the middle.
    pub cut_closed: Counter,
    /// Connections that were reset in the middle.
    pub cut_reset: Counter,
    /// Cuts after which the server took the file up again.
    pub survived: Counter,
    /// Uploads that began with bytes of an earlier connection.
    pub resumed: Counter,
    /// Bytes that a socket had taken and that did not arrive before their connection was cut.
    pub sent_again: Counter,
    /// Bytes that the server had reported as stored, and reported as missing later.
    pub stored_sent_again: Counter,
    /// Files that came back different, or of which the server held more than was ever sent.
    pub mismatches: Counter,
    /// Requests that the server refused.
    pub refused: Counter,
    /// Connections that broke or stood still although nobody had cut them.
    pub broken: Counter,
    findings: Mutex<Vec<String>>,
}

impl UploadStats {
    pub(super) fn cuts(&self) -> u64 {
        self.cut_silent.get() + self.cut_closed.get() + self.cut_reset.get()
    }

    /// Keeps the first failures in words.
    pub(super) fn find(&self, text: String) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.len() < FINDINGS {
            findings.push(text);
        }
    }

    fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One line while it runs; nothing for a fleet that uploads nothing.
    pub fn line(&self) -> Option<String> {
        if self.sent.get() == 0 && self.broken.get() == 0 {
            return None;
        }
        let (verified, cuts) = (self.verified.get(), self.cuts());
        Some(format!("{verified} files uploaded and compared, {cuts} cuts"))
    }
}

/// The outcome of a fleet's uploads.
#[derive(Debug, Clone, Serialize)]
pub struct UploadReport {
    /// Files came through whole, and nothing failed.
    pub passed: bool,
    /// How many devices uploaded.
    pub uploaders: usize,
    /// How many files there were to be in all.
    pub files: u64,
    /// Bytes of each.
    pub bytes_per_file: u64,
    /// Files whose end the server has acknowledged.
    pub completed: u64,
    /// Of these: fetched again and found to be what was sent.
    pub verified: u64,
    /// Bytes of files that sockets have taken.
    pub bytes_sent: u64,
    /// Cuts without a word.
    pub cut_silent: u64,
    /// Cuts in order.
    pub cut_closed: u64,
    /// Cuts by a reset.
    pub cut_reset: u64,
    /// Cuts after which the server took the file up again.
    pub survived: u64,
    /// Uploads that began with bytes of an earlier connection.
    pub resumed: u64,
    /// Bytes that did not arrive before their connection was cut, and were sent again.
    pub bytes_sent_again: u64,
    /// Bytes that the server had reported as stored, and wanted again.
    pub stored_bytes_sent_again: u64,
    /// Files that came back different, or of which the server held more than was ever sent.
    pub mismatches: u64,
    /// Requests that the server refused.
    pub refused: u64,
    /// Connections that broke or stood still although nobody had cut them.
    pub broken: u64,
    /// The first failures in words.
    pub findings: Vec<String>,
}

impl UploadReport {
    pub(in crate::fleet) fn new(config: &UploadConfig, stats: &UploadStats) -> Self {
        let failures = [&stats.mismatches, &stats.stored_sent_again, &stats.refused, &stats.broken];
        Self {
            passed: failures.iter().all(|c| c.get() == 0) && stats.verified.get() > 0,
            uploaders: config.uploaders,
            files: config.files.saturating_mul(config.uploaders as u64),
            bytes_per_file: config.bytes,
            completed: stats.completed.get(),
            verified: stats.verified.get(),
            bytes_sent: stats.sent.get(),
            cut_silent: stats.cut_silent.get(),
            cut_closed: stats.cut_closed.get(),
            cut_reset: stats.cut_reset.get(),
            survived: stats.survived.get(),
            resumed: stats.resumed.get(),
            bytes_sent_again: stats.sent_again.get(),
            stored_bytes_sent_again: stats.stored_sent_again.get(),
            mismatches: stats.mismatches.get(),
            refused: stats.refused.get(),
            broken: stats.broken.get(),
            findings: stats.findings(),
        }
    }

    /// What failed, in words.
    pub(in crate::fleet) fn failure(&self) -> Option<&'static str> {
        if self.passed {
            None
        } else if self.mismatches > 0 || self.stored_bytes_sent_again > 0 {
            Some("FAILED: the server lost or spoilt uploaded bytes")
        } else if self.refused > 0 || self.broken > 0 {
            Some("FAILED: the server refused or broke uploads")
        } else {
            Some("FAILED: no file was uploaded whole in the time")
        }
    }
}

impl fmt::Display for UploadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, bytes, uploaders) = (self.files, self.bytes_per_file, self.uploaders);
        let text = format_args!("{} of {files}, {bytes} bytes each", self.completed);
        row(f, "files uploaded", text)?;
        row(f, "  by devices", format_args!("{uploaders}"))?;
        row(f, "  fetched and compared", format_args!("{}", self.verified))?;
        row(f, "  bytes sent", format_args!("{}", self.bytes_sent))?;
        let cuts = self.cut_silent + self.cut_closed + self.cut_reset;
        let kinds = format_args!(
            "{cuts} ({} silent, {} closed, {} reset), {} survived",
            self.cut_silent, self.cut_closed, self.cut_reset, self.survived
        );
        row(f, "  cuts of their links", kinds)?;
        row(f, "  resumed", format_args!("{}", self.resumed))?;
        row(f, "  lost on the way, again", format_args!("{} bytes", self.bytes_sent_again))?;
        let stored = self.stored_bytes_sent_again;
        row(f, "  stored, sent again", format_args!("{stored} bytes (0 expected)"))?;
        row(f, "  mismatches", format_args!("{} (0 expected)", self.mismatches))?;
        row(f, "  refused", format_args!("{} (0 expected)", self.refused))?;
        row(f, "  broken, but not cut", format_args!("{} (0 expected)", self.broken))?;
        for found in &self.findings {
            row(f, "  finding", format_args!("{found}"))?;
        }
        Ok(())
    }
}
