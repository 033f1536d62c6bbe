//! Devices that upload over bad links, against a server that behaves, and several that do not.

#[allow(dead_code, reason = "each test binary uses a part of the shared helpers")]
mod command;
#[allow(dead_code, reason = "each test binary uses a part of the shared servers")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use command::Server;
use pulsegate::fleet::{Credentials, Fleet, FleetConfig, FleetReport, UploadConfig};
use support::file_server::{Cut, Faults, FileServer};
use tokio::sync::Notify;

const UPLOADERS: usize = 5;
const FILES: u64 = 2;

/// Small files over links that are cut several times in each.
fn config(server: SocketAddr) -> FleetConfig {
    let login = Credentials { user: "device%n".into(), password: "secret".into() };
    let mut config = FleetConfig::new(server, UPLOADERS + 3);
    config.heartbeat = Duration::from_millis(500);
    config.dark_per_minute = 0.0;
    config.login = Some(login.clone());
    config.seed = 7;
    config.uploads = Some(UploadConfig {
        uploaders: UPLOADERS,
        files: FILES,
        bytes: 50_001,
        link_rate: Some(100_000),
        link_cut: Some(Duration::from_millis(100)),
        login,
    });
    config
}

/// Runs until `enough` of the report's uploads, or until the test has waited long enough.
async fn run(
    config: FleetConfig,
    enough: fn(&pulsegate::fleet::UploadStats) -> bool,
) -> FleetReport {
    let seen = Arc::new(Notify::new());
    let waiting = Arc::clone(&seen);
    let stop = async move {
        tokio::select! {
            () = waiting.notified() => {}
            () = tokio::time::sleep(command::PATIENCE) => {}
        }
    };
    let observe = |stats: &pulsegate::fleet::FleetStats| {
        if enough(&stats.uploads) {
            seen.notify_one();
        }
    };
    Fleet::new(config).unwrap().run(stop, observe).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_through_however_often_links_are_cut() {
    let server = FileServer::start(Faults::default()).await;
    let all = UPLOADERS as u64 * FILES;
    let report = run(config(server.addr), |stats| stats.verified.get() == 10).await;
    assert!(report.passed, "{report}");
    let uploads = report.uploads.as_ref().unwrap();
    assert_eq!((uploads.files, uploads.completed, uploads.verified), (all, all, all), "{report}");
    assert!(uploads.cut_silent > 10 && uploads.resumed > 10, "{report}");
    let cuts = uploads.cut_silent + uploads.cut_closed + uploads.cut_reset;
    assert_eq!(uploads.survived, cuts, "{report}");
    let state = server.state();
    // A silent connection still stands when its device comes back.
    assert!(state.taken_over > 10, "{}", state.taken_over);
    assert_eq!(state.files.len() as u64, all);
    assert!(state.files.values().all(|file| file.len() == 50_001));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["uploads"]["stored_bytes_sent_again"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loses_or_spoils_bytes_is_found() {
    let server = FileServer::start(Faults { forgets: true, ..Faults::default() }).await;
    let report = run(config(server.addr), |stats| stats.stored_sent_again.get() > 0).await;
    let uploads = report.uploads.as_ref().unwrap();
    assert!(!report.passed && uploads.stored_bytes_sent_again > 0, "{report}");
    assert!(report.to_string().contains("lost or spoilt") && !uploads.findings.is_empty());

    let server = FileServer::start(Faults { spoils: true, ..Faults::default() }).await;
    let report = run(config(server.addr), |stats| stats.mismatches.get() == 10).await;
    let uploads = report.uploads.as_ref().unwrap();
    assert!(!report.passed && uploads.mismatches == 10, "{report}");
    assert_eq!((uploads.completed, uploads.verified), (10, 0), "{report}");
    assert!(uploads.findings[0].contains("differs at byte 0"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_or_breaks_uploads_is_found() {
    let refuse = Some((u32::MAX, "Upload", 4, "no\x1b"));
    let server = FileServer::start(Faults { refuse, ..Faults::default() }).await;
    let report = run(config(server.addr), |stats| stats.refused.get() > 0).await;
    assert!(!report.passed && report.to_string().contains("code 4"), "{report}");
    assert!(!report.to_string().contains('\x1b'), "{report}");

    let cut = Some((10_000, Cut::Unread));
    let server = FileServer::start(Faults { cut, ..Faults::default() }).await;
    let mut config = config(server.addr);
    config.uploads.as_mut().unwrap().link_cut = None;
    let report = run(config, |stats| stats.broken.get() > 0).await;
    assert!(!report.passed && report.uploads.as_ref().unwrap().broken > 0, "{report}");
    assert!(report.to_string().contains("refused or broke"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_never_end_prove_nothing() {
    let server = FileServer::start(Faults::default()).await;
    let mut config = config(server.addr);
    config.uploads.as_mut().unwrap().bytes = 1 << 30;
    let report = run(config, |stats| stats.sent.get() > 0).await;
    assert!(!report.passed, "{report}");
    assert!(report.to_string().contains("no file was uploaded whole"), "{report}");
}

#[test]
fn uploads_without_enough_devices_are_refused() {
    let mut config = config("127.0.0.1:9999".parse().unwrap());
    config.devices = UPLOADERS - 1;
    let error = Fleet::new(config).map(drop).unwrap_err().to_string();
    assert!(error.contains("--devices"), "{error}");
}

#[test]
fn the_command_against_the_server_itself() {
    let files = tempfile::tempdir().unwrap();
    let dir = files.path().to_str().unwrap();
    let server = Server::start(&["--files", dir, "--log", "info"]);
    let addr = server.address.to_string();
    let fleet = [
        "simulate",
        "--server",
        &addr,
        "--devices",
        "6",
        "--heartbeat",
        "1s",
        "--dark",
        "0",
        "--upload-user",
        "admin",
        "--password-stdin",
        "--for",
        "6s",
        "--json",
        "--uploaders",
        "4",
        "--upload-bytes",
        "100KiB",
        "--link-rate",
        "100KiB",
        "--link-cut",
        "150ms",
    ];
    let output = command::run(&fleet, "admin\n");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && report["passed"] == true, "{output:?}");
    let uploads = &report["uploads"];
    assert!(uploads["verified"].as_u64().unwrap() >= 1, "{uploads}");
    assert!(uploads["survived"].as_u64().unwrap() > 1, "{uploads}");
    let whole = std::fs::read_dir(files.path()).unwrap();
    let whole = whole.filter(|file| file.as_ref().unwrap().metadata().unwrap().len() == 102_400);
    assert!(whole.count() as u64 >= uploads["verified"].as_u64().unwrap());
    server.stop();
}
