//! The client against a small server of its own.

#[allow(dead_code, reason = "each test binary uses a part of the shared server")]
mod support;

use std::time::{Duration, Instant};

use pulsegate::client::{Client, ClientError, Flag, Timeouts};
use support::{Behaviour, PATIENCE, serve};

const TIMEOUTS: Timeouts = Timeouts { connect: PATIENCE, request: PATIENCE, stall: PATIENCE };

async fn connected(behaviour: Behaviour, flag: Flag) -> Client {
    let server = serve(behaviour).await;
    Client::connect_with(&server.addr.to_string(), flag, TIMEOUTS).await.unwrap()
}

#[tokio::test]
async fn login_heartbeat_and_list() {
    let mut client = connected(Behaviour::default(), Flag::Control).await;
    client.login("admin", "admin").await.unwrap();
    let before = Instant::now();
    let round_trip = client.heartbeat().await.unwrap();
    assert!(round_trip > Duration::ZERO && round_trip <= before.elapsed());
    let rows = client.clients().await.unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2].remote, "10.0.0.1:2");
}

#[tokio::test]
async fn a_list_too_long_for_one_reply_comes_in_pages() {
    for rows in [40_000, 45_000] {
        let behaviour = Behaviour { rows, rows_at_once: 20_000, ..Behaviour::default() };
        let mut client = connected(behaviour, Flag::Control).await;
        let list = client.clients().await.unwrap();
        assert_eq!(list.len(), rows);
        assert!(list.iter().enumerate().all(|(n, row)| row.remote == format!("10.0.0.1:{n}")));
    }
}

#[tokio::test]
async fn a_large_echo_comes_back_whole() {
    let mut client = connected(Behaviour::default(), Flag::Throughput).await;
    let data: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    client.cycle(i32::MAX, &data).await.unwrap();
    client.cycle(-1, b"").await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_told_in_safe_words_and_leaves_the_client_usable() {
    let behaviour = Behaviour { refuse_logins: true, ..Behaviour::default() };
    let mut client = connected(behaviour, Flag::Control).await;
    let error = client.login("admin", "wrong").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { code: 7, .. }));
    let text = error.to_string();
    assert!(text.contains("unknown user or wrong password"), "{text}");
    assert!(text.contains("127.0.0.1:") && !text.contains('\x1b'), "{text}");
    client.heartbeat().await.unwrap();
}

#[tokio::test]
async fn a_mute_server_times_out_and_the_connection_is_given_up() {
    let server = serve(Behaviour { mute: true, ..Behaviour::default() }).await;
    let timeouts = Timeouts { request: Duration::from_millis(200), ..TIMEOUTS };
    let mut client =
        Client::connect_with(&server.addr.to_string(), Flag::Control, timeouts).await.unwrap();
    let error = client.heartbeat().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { command: "Active", .. }), "{error}");
    assert!(matches!(client.heartbeat().await, Err(ClientError::GivenUp { .. })));
}

#[tokio::test]
async fn what_is_no_reply_is_refused() {
    let huge = [0xff; 8].to_vec();
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    for garbage in [huge, http] {
        let behaviour = Behaviour { garbage: Some(garbage), ..Behaviour::default() };
        let mut client = connected(behaviour, Flag::Control).await;
        let error = client.heartbeat().await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    }
    let other = b"\x25\0\0\0\x21\0\0\0[Response]\r\nCommand=Login\r\nCode=0".to_vec();
    let behaviour = Behaviour { garbage: Some(other), ..Behaviour::default() };
    let mut client = connected(behaviour, Flag::Control).await;
    let error = client.heartbeat().await.unwrap_err();
    assert!(matches!(error, ClientError::Unexpected { .. }), "{error}");
}

#[tokio::test]
async fn failures_to_connect_name_the_server() {
    // Bound and dropped: nobody listens there now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::connect(&free.to_string(), Flag::Control).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }));
    assert!(error.to_string().contains(&free.to_string()));
    let error = Client::connect("no-port", Flag::Control).await.unwrap_err();
    assert!(error.to_string().contains("host:port"), "{error}");
}

#[tokio::test]
async fn a_server_that_closes_is_told_from_one_that_is_silent() {
    let behaviour = Behaviour { turn_away: true, ..Behaviour::default() };
    let mut client = connected(behaviour, Flag::Control).await;
    let error = client.heartbeat().await.unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error}");
}
