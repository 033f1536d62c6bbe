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

/// Who may use a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Nobody.
    #[default]
    Off,
    /// Who has logged in.
    Login,
    /// Whoever connects.
    Open,
}

/// Settings of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IocpConfig {
    /// What packets may hold.
    pub limits: Limits,
    /// How long a connection may take to send its flag.
    pub flag_timeout: Duration,
    /// How long a connection may take to log in, where its protocol wants a login; `None`: as long
    /// as it likes.
    pub login_timeout: Option<Duration>,
    /// The longest silence on Control.
    pub control_idle: Duration,
    /// The longest silence on Throughput; `None` switches the protocol off.
    pub throughput_idle: Option<Duration>,
    /// The longest silence on Upload; `None` switches the protocol off.
    pub upload_idle: Option<Duration>,
    /// The longest silence on Download; `None` switches the protocol off.
    pub download_idle: Option<Duration>,
    /// Who may use RemoteStream.
    pub remote_stream: Access,
    /// The longest silence on RemoteStream.
    pub remote_stream_idle: Duration,
    /// The longest silence of a reader of the log, which has nothing to say; `None`: as long as it
    /// likes. The application says who may read it.
    pub log_idle: Option<Duration>,
    /// How many failed logins end a connection.
    pub login_failures: u8,
    /// How long the reader of a client list may take nothing of it.
    pub list_timeout: Duration,
}

impl IocpConfig {
    /// The longest of the timeouts that sessions run into as a rule: what a sweep's wheel is to
    /// cover.
    #[must_use]
    pub fn longest_timeout(&self) -> Duration {
        [
            self.throughput_idle,
            self.upload_idle,
            self.download_idle,
            (self.remote_stream != Access::Off).then_some(self.remote_stream_idle),
            self.log_idle,
        ]
        .into_iter()
        .flatten()
        .fold(self.flag_timeout.max(self.control_idle), Duration::max)
    }
}

impl Default for IocpConfig {
    /// The protocol's own defaults: flag within 6 s, 60 s of silence, three logins; RemoteStream is
    /// off. Upload and Download are on where the application has files.
    fn default() -> Self {
        Self {
            limits: Limits::HOST,
            flag_timeout: Duration::from_secs(6),
            login_timeout: None,
            control_idle: Duration::from_secs(60),
            throughput_idle: Some(Duration::from_secs(60)),
            upload_idle: Some(Duration::from_secs(60)),
            download_idle: Some(Duration::from_secs(60)),
            remote_stream: Access::Off,
            remote_stream_idle: Duration::from_secs(60),
            log_idle: None,
            login_failures: 3,
            list_timeout: Duration::from_secs(5),
        }
    }
}
