//! Log macros of the core: through defmt, through the `log` crate, or nothing.

macro_rules! log_at {
    ($level:ident, $($arg:tt)+) => {{
        #[cfg(feature = "defmt")]
        ::defmt::$level!($($arg)+);
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        ::log::$level!($($arg)+);
        #[cfg(not(any(feature = "defmt", feature = "log")))]
        let _ = ::core::format_args!($($arg)+);
    }};
}

macro_rules! debug { ($($arg:tt)+) => { $crate::fmt::log_at!(debug, $($arg)+) }; }
macro_rules! info { ($($arg:tt)+) => { $crate::fmt::log_at!(info, $($arg)+) }; }

pub(crate) use {debug, info, log_at};
