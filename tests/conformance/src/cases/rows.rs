//! Reading client lists.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::client::{Client, credentials};
use crate::failure::{Outcome, Stop};
use crate::packet::{Packet, Reply};
use crate::target::{Endpoints, Target};

/// What tells one row from another: where it is known, and what it is.
pub(super) type Who = (Option<Endpoints>, String, String);

/// One row of a client list.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) who: Who,
    /// Milliseconds since 1970, or since boot where the server has no wall clock.
    pub(super) connected: u64,
    pub(super) active: u64,
}

/// An operator who sees client lists.
pub(super) struct Watcher {
    pub(super) client: Client,
    user: String,
    known: bool,
    wall_clock: bool,
    patience: Duration,
}

impl Watcher {
    pub(super) fn new(target: &mut dyn Target) -> Result<Self, Stop> {
        let user = credentials(target)?.user;
        let limits = target.limits().clone();
        let client = Client::operator(target)?;
        let known = client.endpoints().is_some();
        Ok(Self {
            client,
            user,
            known,
            wall_clock: limits.wall_clock,
            patience: limits.reply_timeout,
        })
    }

    /// The row that lists this connection.
    pub(super) fn who(&self) -> Who {
        who(&self.client, "Control", &self.user)
    }

    /// Asks for the list, with keys that select rows or none.
    pub(super) fn list(&mut self, keys: &[(&str, usize)]) -> Result<Vec<Row>, Stop> {
        let packet = keys
            .iter()
            .fold(Packet::request("GetClients"), |packet, (key, value)| packet.key(key, value));
        let reply = self.client.ask(&packet, "GetClients", 0)?;
        self.read(&reply)
    }

    /// Reads the rows of a reply, strictly.
    pub(super) fn read(&self, reply: &Reply) -> Result<Vec<Row>, Stop> {
        if !reply.data.is_empty() {
            return Err(self
                .client
                .fail("a list without data", &format!("{} bytes", reply.data.len())));
        }
        let row = |(key, value): &(String, String)| match key.as_str() {
            "Item" => {
                self.row(value).map_err(|why| self.client.fail(&why, &format!("Item={value:?}")))
            }
            _ => Err(self.client.fail("only Item= lines", &format!("{key}={value}"))),
        };
        reply.keys.iter().map(row).collect()
    }

    /// Waits until the list is exactly this: connections of earlier cases take a moment to go, new ones to come.
    pub(super) fn settle(&mut self, expected: &[Who]) -> Result<Vec<Row>, Stop> {
        let mut expected = expected.to_vec();
        expected.sort();
        let deadline = self.client.now() + self.patience;
        loop {
            let rows = self.list(&[])?;
            let mut got: Vec<Who> = rows.iter().map(|row| row.who.clone()).collect();
            got.sort();
            if got == expected {
                return Ok(rows);
            }
            if self.client.now() > deadline {
                let many = expected.len() > 10 || got.len() > 10;
                let (expected, got) = match many {
                    true => {
                        (format!("{} certain rows", expected.len()), format!("{} rows", got.len()))
                    }
                    false => (format!("the rows {expected:?}"), format!("{got:?}")),
                };
                return Err(self.client.fail(&expected, &got));
            }
            self.client.sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nobody else is connected.
    pub(super) fn settle_alone(&mut self) -> Outcome {
        self.settle(&[self.who()]).map(|_| ())
    }

    fn row(&self, text: &str) -> Result<Row, String> {
        let fields: Vec<&str> = text.split('\t').collect();
        let [local, remote, flag, user, connected, active] = fields[..] else {
            return Err("six fields separated by TAB".to_owned());
        };
        let address =
            |text: &str| text.parse().map_err(|_| format!("an address ip:port, not {text:?}"));
        let endpoints = Endpoints { local: address(local)?, remote: address(remote)? };
        if !["", "Upload", "Download", "RemoteStream", "Throughput", "Control", "LogOutput"]
            .contains(&flag)
        {
            return Err(format!("the name of a protocol or nothing, not {flag:?}"));
        }
        let connected = self.stamp(connected)?;
        let active = self.stamp(active)?;
        if connected > active {
            return Err("a last-active time that is not before the connect time".to_owned());
        }
        let who = (self.known.then_some(endpoints), flag.to_owned(), user.to_owned());
        Ok(Row { who, connected, active })
    }

    fn stamp(&self, text: &str) -> Result<u64, String> {
        if !self.wall_clock {
            return since_boot(text)
                .ok_or_else(|| format!("seconds since boot as +S.mmm, not {text:?}"));
        }
        let stamp =
            date(text).ok_or_else(|| format!("a time as YYYY-MM-DD HH:MM:SS.mmm, not {text:?}"))?;
        // Wide enough for two clocks that are kept by network time, too narrow for a wrong time zone.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        match now.abs_diff(stamp / 1000) {
            0..=600 => Ok(stamp),
            _ => Err(format!("a time of today in UTC, not {text:?}")),
        }
    }
}

/// How the list must show a client.
pub(super) fn who(client: &Client, flag: &str, user: &str) -> Who {
    (client.endpoints(), flag.to_owned(), user.to_owned())
}

fn since_boot(text: &str) -> Option<u64> {
    let (seconds, millis) = text.strip_prefix('+')?.split_once('.')?;
    if millis.len() != 3 {
        return None;
    }
    Some(digits(seconds)? * 1000 + digits(millis)?)
}

/// Milliseconds since 1970 of a date in its one fixed form.
fn date(text: &str) -> Option<u64> {
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if form != "0000-00-00 00:00:00.000" {
        return None;
    }
    let part = |from: usize, to: usize| digits(&text[from..to]);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second, millis) =
        (part(11, 13)?, part(14, 16)?, part(17, 19)?, part(20, 23)?);
    if year < 1970
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    // Years that begin in March put the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{date, since_boot};

    #[test]
    fn dates() {
        assert_eq!(date("1970-01-01 00:00:00.000"), Some(0));
        assert_eq!(date("2000-02-29 12:34:56.789"), Some(951_827_696_789));
        assert_eq!(date("2000-03-01 00:00:00.000"), Some(951_868_800_000));
        assert_eq!(date("2026-12-31 23:59:59.999"), Some(1_798_761_599_999));
        assert_eq!(date("2026-13-01 00:00:00.000"), None);
        assert_eq!(date("2026-12-01T00:00:00.000"), None);
        assert_eq!(date("2026-12-01 00:00:00"), None);
    }

    #[test]
    fn boot_times() {
        assert_eq!(since_boot("+12.034"), Some(12_034));
        assert_eq!(since_boot("12.034"), None);
        assert_eq!(since_boot("+12.34"), None);
    }
}
