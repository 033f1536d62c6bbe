//! The `pulsegate` command.
fn main() {}
