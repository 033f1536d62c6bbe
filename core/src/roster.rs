//! The client list: its rows, their text, and a list frozen in lent memory.

use core::fmt::{self, Write};

use embassy_time::Instant;

use crate::app::{List, Page};
use crate::frame::{HEADER_LEN, MAX_PACKET};
use crate::server::{Address, JobId};
use crate::table::SessionId;

/// One connection in the list.
#[derive(Debug)]
pub struct Row<'a, A, U> {
    /// The server's end.
    pub local: A,
    /// The peer's end.
    pub remote: A,
    /// The protocol's name; empty before the flag.
    pub flag: &'static str,
    /// Who it is, after the login.
    pub user: Option<&'a U>,
    /// When it connected.
    pub connected_at: Instant,
    /// When it last proved that it lives.
    pub last_active: Instant,
}

/// How moments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// No wall clock: seconds since the start, as `+S.mmm`.
    #[default]
    SinceBoot,
    /// A wall clock: `YYYY-MM-DD HH:MM:SS.mmm`, UTC.
    Wall {
        /// Milliseconds from 1970-01-01 00:00 UTC to the zero of [`Instant`].
        unix_ms_at_zero: u64,
    },
}

impl Clock {
    /// Writes a moment.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(self, out: &mut impl Write, at: Instant) -> fmt::Result {
        let ms = at.as_millis();
        match self {
            Self::SinceBoot => write!(out, "+{}.{:03}", ms / 1000, ms % 1000),
            Self::Wall { unix_ms_at_zero } => write_utc(out, unix_ms_at_zero.saturating_add(ms)),
        }
    }
}

/// Writes a time since 1970 as a date of the Gregorian calendar.
fn write_utc(out: &mut impl Write, unix_ms: u64) -> fmt::Result {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    // Days of 400 years, of a century, of 4 years, of a year, in a calendar whose years begin in
    // March, so that the leap day is the last of its year.
    const ERA: u64 = 146_097;
    let (days, ms) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    let since_march_of_year_0 = days + 719_468;
    let (era, day) = (since_march_of_year_0 / ERA, since_march_of_year_0 % ERA);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, five months have 153 days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let s = ms / 1000;
    write!(
        out,
        "{year:04}-{month:02}-{day_of_month:02} {:02}:{:02}:{:02}.{:03}",
        s / 3600,
        s / 60 % 60,
        s % 60,
        ms % 1000
    )
}

impl<A: Address, U> Row<'_, A, U> {
    /// Writes the row as it stands in a reply: a line break, `Item=`, and the fields separated by
    /// TAB. `user` is the user's name, empty for none.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, user: &str, clock: Clock) -> fmt::Result {
        write!(out, "\r\nItem={}\t{}\t{}\t{user}\t", self.local, self.remote, self.flag)?;
        clock.write(out, self.connected_at)?;
        out.write_char('\t')?;
        clock.write(out, self.last_active)
    }
}

/// Most bytes of rows that a reply can carry: what the packet leaves beside `[Response]`,
/// `Command=` and `Code=`, for which `head` bytes are kept.
#[must_use]
pub const fn most_text(head: usize) -> u32 {
    let kept = head.saturating_add(HEADER_LEN);
    if kept > MAX_PACKET as usize { 0 } else { MAX_PACKET - kept as u32 }
}

/// A row that outlives its session.
#[derive(Debug, Clone, Copy)]
pub struct FrozenRow<A, U> {
    local: A,
    remote: A,
    flag: &'static str,
    user: Option<U>,
    connected_at: Instant,
    last_active: Instant,
}

impl<A: Address, U> FrozenRow<A, U> {
    /// The row as it stood.
    pub fn row(&self) -> Row<'_, A, U> {
        Row {
            local: self.local,
            remote: self.remote,
            flag: self.flag,
            user: self.user.as_ref(),
            connected_at: self.connected_at,
            last_active: self.last_active,
        }
    }

    fn write<'a>(
        &'a self,
        out: &mut impl Write,
        name: &impl Fn(&'a U) -> &'a str,
        clock: Clock,
    ) -> fmt::Result {
        self.row().write(out, self.user.as_ref().map_or("", name), clock)
    }
}

impl<A: Address, U: Clone> FrozenRow<A, U> {
    /// A copy of a row, with a user of its own.
    pub fn of(row: &Row<'_, A, U>) -> Self {
        Self {
            local: row.local,
            remote: row.remote,
            flag: row.flag,
            user: row.user.cloned(),
            connected_at: row.connected_at,
            last_active: row.last_active,
        }
    }
}

/// Counts bytes, and keeps those of a window.
struct Window<'b> {
    skip: usize,
    buf: &'b mut [u8],
    filled: usize,
    len: usize,
}

impl Write for Window<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.len += s.len();
        let skipped = self.skip.min(s.len());
        self.skip -= skipped;
        let bytes = s.as_bytes().get(skipped..).unwrap_or_default();
        let room = self.buf.get_mut(self.filled..).unwrap_or_default();
        let n = bytes.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.filled += n;
        Ok(())
    }
}

/// How many askers can wait for the list while another reads it.
const WAITING: usize = 4;

/// One frozen client list at a time, in lent memory, for applications with a single server.
///
/// Those who ask while it is taken wait in line; [`Roster::granted`] names them one by one when it
/// is free again.
#[derive(Debug)]
pub struct Roster<'m, A, U> {
    rows: &'m mut [Option<FrozenRow<A, U>>],
    reader: Option<SessionId>,
    waiting: [Option<(SessionId, JobId)>; WAITING],
    /// The row that holds the reader's offset, and the offset at which it begins.
    at: (usize, usize),
    clock: Clock,
}

impl<'m, A: Address, U: Clone> Roster<'m, A, U> {
    /// A roster over room for as many rows as the list may have: one per slot of the table.
    pub fn new(rows: &'m mut [Option<FrozenRow<A, U>>], clock: Clock) -> Self {
        Self { rows, reader: None, waiting: [None; WAITING], at: (0, 0), clock }
    }

    /// Freezes the rows of a page for `id`; [`App::freeze_list`](crate::app::App::freeze_list)
    /// can hand its arguments on. `None`: the asker stands in line and is named by
    /// [`Roster::granted`].
    pub fn freeze<'a>(
        &mut self,
        id: SessionId,
        job: JobId,
        page: Page,
        rows: &mut dyn Iterator<Item = Row<'_, A, U>>,
        name: impl for<'u> Fn(&'u U) -> &'u str,
    ) -> Option<List> {
        if self.reader.is_some() {
            return match self.waiting.iter_mut().find(|place| place.is_none()) {
                Some(place) => {
                    *place = Some((id, job));
                    None
                }
                None => Some(List::Failed("the client list is busy, try again")),
            };
        }
        self.rows.iter_mut().for_each(|place| *place = None);
        let mut places = self.rows.iter_mut();
        for row in rows.skip(page.offset as usize).take(page.limit as usize) {
            let Some(place) = places.next() else {
                return Some(List::TooLong);
            };
            *place = Some(FrozenRow::of(&row));
        }
        let mut window = Window { skip: 0, buf: &mut [], filled: 0, len: 0 };
        for row in self.rows.iter().flatten() {
            // Writing to a window cannot fail.
            let _ = row.write(&mut window, &|user| name(user), self.clock);
        }
        let Ok(len) = u32::try_from(window.len) else {
            return Some(List::TooLong);
        };
        self.reader = Some(id);
        self.at = (0, 0);
        Some(List::Frozen(len))
    }

    /// Copies text of the list frozen for `id`; offsets only grow.
    pub fn read(
        &mut self,
        id: SessionId,
        offset: usize,
        buf: &mut [u8],
        name: impl for<'u> Fn(&'u U) -> &'u str,
    ) -> usize {
        if self.reader != Some(id) {
            return 0;
        }
        let (row, begin) = self.at;
        let skip = offset.saturating_sub(begin);
        let mut window = Window { skip, buf, filled: 0, len: 0 };
        for (index, row) in self.rows.iter().enumerate().skip(row) {
            let Some(row) = row else { break };
            self.at = (index, begin + window.len);
            let _ = row.write(&mut window, &|user| name(user), self.clock);
            if window.filled == window.buf.len() {
                break;
            }
        }
        window.filled
    }

    /// The reader is done, or a waiting asker is gone.
    pub fn release(&mut self, id: SessionId) {
        if self.reader == Some(id) {
            self.reader = None;
        }
        for place in &mut self.waiting {
            place.take_if(|(waiting, _)| *waiting == id);
        }
        self.close_ranks();
    }

    /// Who has waited longest, if the list is free now: complete its question with
    /// [`List::Retry`].
    pub fn granted(&mut self) -> Option<(SessionId, JobId)> {
        if self.reader.is_some() {
            return None;
        }
        let [first, ..] = &mut self.waiting;
        let granted = first.take();
        self.close_ranks();
        granted
    }

    /// Those who wait stand at the front in the order in which they came.
    fn close_ranks(&mut self) {
        let waiting = core::mem::take(&mut self.waiting);
        for (place, waiting) in self.waiting.iter_mut().zip(waiting.into_iter().flatten()) {
            *place = Some(waiting);
        }
    }
}
