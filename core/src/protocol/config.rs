//! Which protocols there are, and their settings.

use embassy_time::Duration;

use crate::frame::Limits;

/// The first byte of a connection: which protocol it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Flag {
    /// Files to the server.
    Upload = 2,
    /// Files from the server.
    Download = 3,
    /// A remote file as a stream.
    RemoteStream = 4,
    /// Echo of data, to measure a link.
    Throughput = 5,
    /// Heartbeats, login, the client list.
    Control = 8,
    /// The server's log as text.
    LogOutput = 9,
}

impl Flag {
    /// The flag of a byte, if it is one.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            2 => Self::Upload,
            3 => Self::Download,
            4 => Self::RemoteStream,
            5 => Self::Throughput,
            8 => Self::Control,
            9 => Self::LogOutput,
            _ => return None,
        })
    }

    /// The text in client lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upload => "Upload",
            Self::Download => "Download",
            Self::RemoteStream => "RemoteStream",
            Self::Throughput => "Throughput",
            Self::Control => "Control",
            Self::LogOutput => "LogOutput",
        }
    }
}

/// Settings of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IocpConfig {
    /// What packets may hold.
    pub limits: Limits,
    /// How long a connection may take to send its flag.
    pub flag_timeout: Duration,
    /// How long a Control connection may take to log in; `None`: as long as it likes.
    pub login_timeout: Option<Duration>,
    /// The longest silence on Control.
    pub control_idle: Duration,
    /// The longest silence on Throughput; `None` switches the protocol off.
    pub throughput_idle: Option<Duration>,
    /// How many failed logins end a connection.
    pub login_failures: u8,
    /// How long the reader of a client list may take nothing of it.
    pub list_timeout: Duration,
}

impl Default for IocpConfig {
    /// The protocol's own defaults: flag within 6 s, 60 s of silence, three logins.
    fn default() -> Self {
        Self {
            limits: Limits::HOST,
            flag_timeout: Duration::from_secs(6),
            login_timeout: None,
            control_idle: Duration::from_secs(60),
            throughput_idle: Some(Duration::from_secs(60)),
            login_failures: 3,
            list_timeout: Duration::from_secs(5),
        }
    }
}
