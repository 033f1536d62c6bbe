//! The wire cases against the gateway, with a client on the same LAN and a clock moved by hand.

use std::time::Duration;

use pulsegate_conformance::{Limits, Options, Report, Target, Verdict, run};
use pulsegate_gateway_tests::{LanTarget, Setup};

/// Small buffers and few sessions; the default timeouts, and next to nothing allowed for the LAN.
fn limits() -> Limits {
    Limits {
        // Twice across the LAN, and a delayed acknowledgement of the client's.
        slack: Duration::from_millis(12),
        stalled_reader: true,
        ..Limits::microcontroller()
    }
}

fn check(limits: &Limits, filter: Option<&str>) -> Report {
    let target = || LanTarget::new(limits.clone(), Setup::default());
    let options = Options { filter: filter.map(str::to_owned), jobs: 1 };
    let report = run(|| Ok(Box::new(target()) as Box<dyn Target>), &options);
    assert!(report.is_success(), "{} of {} cases failed", report.failed(), report.cases.len());
    report
}

#[test]
fn the_gateway_keeps_the_wire_contract() {
    let report = check(&limits(), None);
    let skipped = report.cases.iter().filter(|case| matches!(case.verdict, Verdict::Skipped(_)));
    let skipped: Vec<_> = skipped.map(|case| case.name).collect();
    let large = [
        "timing/slow_reader_is_alive",
        "framing/total_len_of_10_mib_is_accepted",
        "throughput/no_reply_over_10_mib",
    ];
    assert_eq!(skipped, large);
}

/// A client whose own stack holds all that it sends may send far more than the gateway holds.
#[test]
fn large_packets_pass_through_small_buffers() {
    let limits = Limits { max_data: 10 * 1024 * 1024, whole_data: 1024 * 1024, ..limits() };
    for case in ["slow_reader", "10_mib"] {
        assert_eq!(check(&limits, Some(case)).skipped(), 0);
    }
}
