//! Pulsegate on a std host.
