//! Core of a session server for devices.
#![no_std]
#![forbid(unsafe_code)]
