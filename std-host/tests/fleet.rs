//! The fleet against a server that behaves, and against several that do not.

#[allow(dead_code, reason = "each test binary uses a part of the shared server")]
mod support;

use std::future::pending;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pulsegate::fleet::{Credentials, Fleet, FleetConfig, FleetReport};
use pulsegate_conformance::pace::undisturbed;
use support::{Behaviour, FakeServer, serve};
use tokio::runtime::Runtime;

const IDLE: Duration = Duration::from_millis(600);

/// What the fleet's allowance has room for, and a device that is to beat every 200 ms.
const HELD_UP: Duration = Duration::from_millis(250);

/// A short life in which most devices lose their signal.
fn config(server: &FakeServer) -> FleetConfig {
    let mut config = FleetConfig::new(server.addr, 100);
    config.heartbeat = Duration::from_millis(200);
    config.latency = Duration::from_millis(20);
    config.idle_timeout = IDLE;
    // Generous: the machine that runs tests may be busy.
    config.allowance = Duration::from_millis(300);
    config.dark_per_minute = 60.0;
    config.reconnect = Duration::from_millis(400);
    config.duration = Some(Duration::from_millis(2900));
    config.seed = 7;
    config
}

/// The report of a fleet with this configuration against a server that behaves so.
fn run(behaviour: &Behaviour, adapt: impl Fn(&mut FleetConfig)) -> FleetReport {
    run_until(behaviour, Duration::MAX, adapt)
}

/// The same, stopped from outside after some time.
fn run_until(
    behaviour: &Behaviour,
    stop: Duration,
    adapt: impl Fn(&mut FleetConfig),
) -> FleetReport {
    let attempt = async || {
        let server = serve(behaviour.clone()).await;
        let mut config = config(&server);
        adapt(&mut config);
        Fleet::new(config).unwrap().run(tokio::time::sleep(stop), |_| {}).await
    };
    measure(attempt)
}

/// What comes of an attempt that the machine let run.
fn measure<T>(attempt: impl AsyncFn() -> T) -> T {
    undisturbed(HELD_UP, || Runtime::new().unwrap().block_on(attempt()))
}

fn idle(idle: Option<Duration>) -> Behaviour {
    Behaviour { idle, ..Behaviour::default() }
}

#[test]
fn a_good_server_passes() {
    let attempt = async || {
        let server = serve(idle(Some(IDLE))).await;
        let mut config = config(&server);
        config.login = Some(Credentials { user: "device%n".into(), password: "secret".into() });
        let fleet = Fleet::new(config).unwrap();
        let stats = fleet.stats();
        let mut most_logged_in = 0;
        let report = fleet
            .run(pending(), |stats| most_logged_in = stats.logged_in.get().max(most_logged_in))
            .await;
        (report, stats, most_logged_in, server.accepted.load(Relaxed) as u64)
    };
    let (report, stats, most_logged_in, accepted) = measure(attempt);
    assert!(report.passed, "{report}");
    assert!(report.went_dark > 50, "{report}");
    assert_eq!(report.on_time + report.late, report.went_dark, "{report}");
    assert_eq!((report.pending, report.bad_replies, report.starved), (0, 0, 0), "{report}");
    assert_eq!(report.connections, accepted, "{report}");
    assert!(report.beats_answered > 500 && report.beats_answered <= report.beats_sent);
    assert!((50..=100).contains(&most_logged_in), "{most_logged_in}");
    // Every gauge is back where it started.
    assert_eq!((stats.connected.get(), stats.logged_in.get(), stats.dark.get()), (0, 0, 0));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["seed"], 7);
    assert_eq!(json["false_closes"], 0);
    assert!(json["round_trip_ms"]["p99"].as_f64().unwrap() > 0.0);
}

#[test]
fn early_closes_are_found() {
    let report = run(&idle(Some(IDLE / 2)), |_| {});
    assert!(!report.passed && report.early > 50, "{report}");
    assert_eq!((report.on_time, report.missed), (0, 0), "{report}");
    assert!(report.worst_lateness_ms.unwrap() < 0.0, "{report}");
    assert!(report.to_string().contains("FAILED"), "{report}");
    assert_eq!(report.findings.len(), 10);
}

#[test]
fn late_closes_are_found_and_do_not_fail_the_run() {
    let report = run(&idle(Some(IDLE + Duration::from_millis(700))), |_| {});
    assert!(report.passed && report.late > 50, "{report}");
    assert_eq!((report.on_time, report.early, report.missed), (0, 0, 0), "{report}");
    assert!(report.lateness_ms.p50 > 500.0, "{report}");
}

#[test]
fn connections_never_closed_are_missed() {
    let report = run(&idle(None), |_| {});
    assert!(!report.passed, "{report}");
    assert_eq!(report.missed, report.went_dark, "{report}");
    assert!(report.missed > 50, "{report}");
}

#[test]
fn a_run_that_is_stopped_leaves_dark_ones_pending() {
    let minute = Duration::from_secs(60);
    let report = run_until(&idle(Some(minute)), Duration::from_secs(1), |config| {
        config.idle_timeout = minute;
        config.duration = None;
    });
    assert!(report.passed && report.went_dark > 30, "{report}");
    assert_eq!(report.pending, report.went_dark, "{report}");
}

#[test]
fn closing_live_devices_is_found() {
    let max_age = Some(Duration::from_millis(600));
    let report = run(&Behaviour { max_age, ..idle(Some(IDLE)) }, |config| {
        config.dark_per_minute = 0.0;
        config.duration = Some(Duration::from_millis(1500));
    });
    assert!(!report.passed && report.false_closes > 50, "{report}");
    assert_eq!(report.went_dark, 0, "{report}");
}

#[test]
fn refused_devices_are_no_false_closes() {
    let report = run(&Behaviour { turn_away: true, ..Behaviour::default() }, |config| {
        config.dark_per_minute = 0.0;
        config.duration = Some(Duration::from_secs(1));
    });
    assert!(!report.passed && report.turned_away >= 100, "{report}");
    assert_eq!(report.false_closes, 0, "{report}");
    assert!(report.to_string().contains("no heartbeat was answered"), "{report}");
}

#[test]
fn refused_logins_fail_the_run() {
    let report = run(&Behaviour { refuse_logins: true, ..idle(Some(IDLE)) }, |config| {
        config.login = Some(Credentials { user: "d".into(), password: "wrong".into() });
        config.dark_per_minute = 0.0;
        config.duration = Some(Duration::from_secs(1));
    });
    assert!(!report.passed && report.logins_refused >= 100, "{report}");
}

#[test]
fn closes_by_a_new_login_are_early_unless_announced() {
    let behaviour = Behaviour { takeover: true, ..idle(Some(IDLE)) };
    for announced in [true, false] {
        let report = run_until(&behaviour, Duration::from_millis(800), |config| {
            let password = "secret".to_owned();
            config.login = Some(Credentials { user: "device%n".into(), password });
            config.takeover = announced;
            // Most come back before the idle timeout.
            config.reconnect = IDLE / 4;
        });
        let (counted, other) = if announced {
            (report.replaced, report.early)
        } else {
            (report.early, report.replaced)
        };
        assert!(counted > 10 && other == 0, "{report}");
        assert_eq!(report.passed, announced, "{report}");
    }
}
