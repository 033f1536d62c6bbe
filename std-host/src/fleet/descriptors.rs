//! Whether a fleet's sockets fit into the process's limit of open files.

use super::FleetError;
use crate::descriptors::raise;

/// Kept free for what is no device: the runtime, files, standard streams opened later.
const SPARE: u64 = 32;

/// Raises the soft limit to the hard one and checks that `needed` sockets fit beside what is open.
pub(super) fn reserve(needed: u64) -> Result<(), FleetError> {
    let left = raise().map_or(u64::MAX, |limit| limit.saturating_sub(in_use() + SPARE));
    if needed > left {
        return Err(FleetError::Descriptors { needed, left });
    }
    Ok(())
}

/// Descriptors open now; where the system does not list them, a guess.
fn in_use() -> u64 {
    std::fs::read_dir("/dev/fd").map_or(SPARE, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_beyond_the_limit_is_told_what_is_left() {
        assert!(reserve(1).is_ok());
        let limited = raise().is_some();
        if let (true, Err(error)) = (limited, reserve(u64::MAX)) {
            let text = error.to_string();
            assert!(text.contains("ulimit -n"), "{text}");
        }
    }
}
