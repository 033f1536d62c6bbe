//! The wire cases against the gateway, with a client on the same LAN and a clock moved by hand.

use std::time::Duration;

use pulsegate_conformance::{Files, Limits, Options, RemoteStream, Report, Target, Verdict, run};
use pulsegate_core::protocol::{Access, IocpConfig};
use pulsegate_gateway_tests::{FILES, LanTarget, Setup};

/// Bytes of a file in the gateway's store.
const FILE: usize = 4096;

/// Small buffers and few sessions; the default timeouts, and next to nothing allowed for the LAN.
fn limits(file: usize) -> Limits {
    Limits {
        // Twice across the LAN, and a delayed acknowledgement of the client's.
        slack: Duration::from_millis(12),
        stalled_reader: true,
        files: Some(Files {
            max_file: file,
            max_entries: FILES,
            full_at: Some(file),
            ..Files::microcontroller()
        }),
        remote_stream: RemoteStream::Login,
        ..Limits::microcontroller()
    }
}

fn check(limits: &Limits, file: usize, filter: Option<&str>) -> Report {
    let setup = || {
        let setup = Setup::default();
        let idle = setup.protocol.throughput_idle;
        let protocol = IocpConfig {
            upload_idle: idle,
            download_idle: idle,
            remote_stream: match limits.remote_stream {
                RemoteStream::Off => Access::Off,
                RemoteStream::Login => Access::Login,
                RemoteStream::Open => Access::Open,
            },
            ..setup.protocol
        };
        Setup { protocol, file, ..setup }
    };
    let target = || LanTarget::new(limits.clone(), setup());
    let options = Options { filter: filter.map(str::to_owned), jobs: 1 };
    let report = run(|| Ok(Box::new(target()) as Box<dyn Target>), &options);
    assert!(report.is_success(), "{} of {} cases failed", report.failed(), report.cases.len());
    report
}

#[test]
fn the_gateway_keeps_the_wire_contract() {
    let report = check(&limits(FILE), FILE, None);
    let skipped = report.cases.iter().filter(|case| matches!(case.verdict, Verdict::Skipped(_)));
    let skipped: Vec<_> = skipped.map(|case| case.name).collect();
    let expected = [
        // These need more data than the target is to be sent, and pass below.
        "timing/slow_reader_is_alive",
        "idle/slow_download_is_alive",
        "idle/download_never_read_is_given_up",
        // Everything is on.
        "framing/switched_off_flag_closes_at_once",
        "framing/total_len_of_10_mib_is_accepted",
        "throughput/no_reply_over_10_mib",
        // The store in memory is the same for everybody.
        "folders/device_sees_only_its_own",
        "paths/hostile_from_a_device",
        // A microcontroller takes no command that is so long.
        "paths/too_long",
        "download/heartbeats_during_a_long_one",
        "download/growing_file_is_sent_as_it_was",
        "download/shrunk_file_is_never_padded",
    ];
    assert_eq!(skipped, expected);
}

/// A client whose own stack holds all that it sends may send far more than the gateway holds.
#[test]
fn large_packets_and_files_pass_through_small_buffers() {
    const LARGE: usize = 8 * 1024 * 1024;
    let large = limits(LARGE);
    let limits = Limits { max_data: 10 * 1024 * 1024, whole_data: 1024 * 1024, ..large };
    for case in [
        "slow_reader",
        "10_mib",
        "slow_download",
        "download_never_read",
        "during_a_long_one",
        "growing_file",
        "shrunk_file",
    ] {
        assert_eq!(check(&limits, LARGE, Some(case)).skipped(), 0);
    }
}

/// A protocol that is switched off is none.
#[test]
fn what_is_switched_off_is_turned_away() {
    let limits = Limits { remote_stream: RemoteStream::Off, files: None, ..limits(FILE) };
    let target = || LanTarget::new(limits.clone(), Setup::default());
    let options = Options { filter: Some("switched_off".to_owned()), jobs: 1 };
    let report = run(|| Ok(Box::new(target()) as Box<dyn Target>), &options);
    assert_eq!((report.passed(), report.failed()), (1, 0));
}

#[test]
fn a_remote_stream_may_be_open_to_everybody() {
    let open = Limits { remote_stream: RemoteStream::Open, ..limits(FILE) };
    check(&open, FILE, Some("remote_stream/"));
}
