//! The wire cases against the gateway, with a client on the same LAN and a clock moved by hand.

use std::time::Duration;

use pulsegate_conformance::{Files, Limits, Options, RemoteStream, Report, Target, Verdict, run};
use pulsegate_core::protocol::{Access, IocpConfig};
use pulsegate_gateway_tests::{FILE_BYTES, FILES, LanTarget, Setup};

/// Small buffers and few sessions; the default timeouts, and next to nothing allowed for the LAN.
fn limits() -> Limits {
    Limits {
        // Twice across the LAN, and a delayed acknowledgement of the client's.
        slack: Duration::from_millis(12),
        stalled_reader: true,
        files: Some(Files {
            max_file: FILE_BYTES,
            max_entries: FILES,
            full_at: Some(FILE_BYTES),
            ..Files::microcontroller()
        }),
        remote_stream: RemoteStream::Login,
        ..Limits::microcontroller()
    }
}

fn check(limits: &Limits, filter: Option<&str>) -> Report {
    let target = || {
        let remote_stream = match limits.remote_stream {
            RemoteStream::Off => Access::Off,
            RemoteStream::Login => Access::Login,
            RemoteStream::Open => Access::Open,
        };
        let setup = Setup::default();
        let protocol = IocpConfig { remote_stream, ..setup.protocol };
        LanTarget::new(limits.clone(), Setup { protocol, ..setup })
    };
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
    // All is switched on, everybody sees the same files, and no file is large.
    let expected = [
        "timing/slow_reader_is_alive",
        "idle/slow_download_is_alive",
        "idle/download_never_read_is_given_up",
        "framing/switched_off_flag_closes_at_once",
        "framing/total_len_of_10_mib_is_accepted",
        "throughput/no_reply_over_10_mib",
        "folders/device_sees_only_its_own",
        "paths/hostile_from_a_device",
        "paths/too_long",
        "download/heartbeats_during_a_long_one",
        "download/growing_file_is_sent_as_it_was",
        "download/shrunk_file_is_never_padded",
    ];
    assert_eq!(skipped, expected);
}

/// A client whose own stack holds all that it sends may send far more than the gateway holds.
#[test]
fn large_packets_pass_through_small_buffers() {
    let limits = Limits { max_data: 10 * 1024 * 1024, whole_data: 1024 * 1024, ..limits() };
    for case in ["slow_reader", "10_mib"] {
        assert_eq!(check(&limits, Some(case)).skipped(), 0);
    }
}

#[test]
fn remote_stream_is_off_or_open_as_it_is_set() {
    let off = Limits { remote_stream: RemoteStream::Off, ..limits() };
    check(&off, Some("switched_off"));
    let open = Limits { remote_stream: RemoteStream::Open, ..limits() };
    check(&open, Some("remote_stream/"));
}
