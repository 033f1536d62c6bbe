//! Control: heartbeats with data, and the list of clients.

use std::time::Duration;

use super::Case;
use super::rows::{Row, Watcher, Who, who};
use crate::client::Client;
use crate::failure::{Outcome, Stop};
use crate::packet::{MAX_TOTAL, Packet, heartbeat, pattern};
use crate::target::Target;

pub(super) const CASES: &[Case] = &[
    Case::new("control/heartbeat_data_is_discarded", "2", heartbeat_data),
    Case::new("control/list_is_well_formed_for_several_at_once", "6", several_lists),
    Case::new("control/list_with_bad_selection", "6", bad_selection),
    Case::new("control/list_shows_every_kind_of_connection", "6", every_kind).alone(),
    Case::new("control/list_times", "6", times).alone(),
    Case::new("control/closed_connections_leave_the_list", "6", leaving).alone(),
    Case::new("control/long_list_is_exact", "6", long_list).alone(),
    Case::new("control/offset_and_limit", "6", offset_and_limit).alone(),
];

fn heartbeat_data(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    let nearly_all = MAX_TOTAL - 4 - heartbeat().text_len() - 1;
    let mut client = Client::control(target)?;
    for size in [0, 1, 511, 512, 513, 4096, 64 * 1024, 1024 * 1024, nearly_all] {
        if size > limits.max_data {
            break;
        }
        client.send_while_reading(&heartbeat().data(pattern(size)))?;
        let reply = client
            .expect("Active", 0)
            .map_err(|stop| stop.within(&format!("{size} bytes of data")))?;
        if !reply.data.is_empty() {
            return Err(client.fail("no data", &format!("{} bytes", reply.data.len())));
        }
        client.alive()?;
    }
    Ok(())
}

/// The lists are made one at a time; whoever must wait gets his in the end, and the others' stay whole.
fn several_lists(target: &mut dyn Target) -> Outcome {
    let count = target.limits().max_sessions.min(4);
    let mut watchers = (0..count).map(|_| Watcher::new(target)).collect::<Result<Vec<_>, _>>()?;
    let requests = Packet::request("GetClients").bytes().repeat(3);
    for watcher in &mut watchers {
        watcher.client.send(&requests)?;
    }
    for watcher in &mut watchers {
        for _ in 0..3 {
            let reply = watcher.client.expect("GetClients", 0)?;
            let rows = watcher.read(&reply)?;
            let me = watcher.who();
            if !rows.iter().any(|row| row.who == me) {
                return Err(watcher.client.fail(&format!("a row {me:?}"), &format!("{rows:?}")));
            }
        }
        watcher.client.alive()?;
    }
    Ok(())
}

fn bad_selection(target: &mut dyn Target) -> Outcome {
    let mut client = Client::operator(target)?;
    for value in ["", "abc", "-1", "1.5", "0x1", "99999999999999999999999"] {
        for key in ["Offset", "Limit"] {
            let packet = Packet::request("GetClients").key(key, value);
            client
                .ask(&packet, "GetClients", 6)
                .map_err(|stop| stop.within(&format!("{key}={value}")))?;
        }
    }
    client.ask(&Packet::request("GetClients").key("Offset", "0"), "GetClients", 0)?;
    client.alive()
}

fn every_kind(target: &mut dyn Target) -> Outcome {
    if target.limits().max_sessions < 4 {
        return Err(Stop::skip("needs four connections"));
    }
    let mut watcher = Watcher::new(target)?;
    watcher.settle_alone()?;
    let silent = Client::connect(target)?;
    let mut control = Client::control(target)?;
    control.alive()?;
    let mut throughput = Client::throughput(target)?;
    throughput.alive()?;
    let expected = [
        watcher.who(),
        who(&silent, "", ""),
        who(&control, "Control", ""),
        who(&throughput, "Throughput", ""),
    ];
    watcher.settle(&expected)?;
    Ok(())
}

/// A connect time never changes; a last-active time follows what its own connection does and nothing else.
fn times(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    let pause = limits.idle_timeout.min(Duration::from_secs(1)) / 4;
    let tolerance = (limits.slack + limits.tick).as_millis() as u64;
    let mut watcher = Watcher::new(target)?;
    watcher.settle_alone()?;
    let mut idle = Client::throughput(target)?;
    idle.alive()?;
    let expected = [watcher.who(), who(&idle, "Throughput", "")];
    // Time for the acknowledgement of the reply, which is activity too.
    watcher.client.sleep(pause);
    let before = watcher.settle(&expected)?;
    watcher.client.sleep(pause);
    let after = watcher.settle(&expected)?;
    let passed = pause.as_millis() as u64;
    for (row, later) in before.iter().flat_map(|row| after.iter().map(move |later| (row, later))) {
        if row.who != later.who {
            continue;
        }
        if row.connected != later.connected {
            return Err(watcher
                .client
                .fail("the same connect time in both lists", &format!("{row:?}, {later:?}")));
        }
        let moved = later.active.abs_diff(row.active);
        let own = row.who == watcher.who();
        let right = if own { moved.saturating_add(tolerance / 4) >= passed } else { moved == 0 };
        if !right {
            let rule = if own {
                "own last-active time to advance"
            } else {
                "an idle connection's to stand still"
            };
            return Err(watcher.client.fail(rule, &format!("{row:?}, {later:?}")));
        }
    }
    Ok(())
}

fn leaving(target: &mut dyn Target) -> Outcome {
    if target.limits().max_sessions < 4 {
        return Err(Stop::skip("needs four connections"));
    }
    let mut watcher = Watcher::new(target)?;
    watcher.settle_alone()?;
    let first = Client::throughput(target)?;
    let second = Client::control(target)?;
    let third = Client::throughput(target)?;
    let kept = who(&third, "Throughput", "");
    let all =
        [watcher.who(), who(&first, "Throughput", ""), who(&second, "Control", ""), kept.clone()];
    watcher.settle(&all)?;
    drop(second);
    drop(first);
    watcher.settle(&[watcher.who(), kept])?;
    drop(third);
    watcher.settle_alone()
}

/// As many rows as the target has room for, which is more than its buffers hold.
fn long_list(target: &mut dyn Target) -> Outcome {
    let count = target.limits().max_sessions;
    let mut watcher = Watcher::new(target)?;
    watcher.settle_alone()?;
    let (others, expected) = crowd(target, &watcher, count)?;
    let rows = watcher.settle(&expected)?;
    // The order is free, but a second list must be as exact, also when two are asked for at once.
    watcher.client.send(&Packet::request("GetClients").bytes().repeat(2))?;
    for _ in 0..2 {
        let reply = watcher.client.expect("GetClients", 0)?;
        same(&watcher, &rows, &watcher.read(&reply)?)?;
    }
    drop(others);
    watcher.settle_alone()
}

fn offset_and_limit(target: &mut dyn Target) -> Outcome {
    let count = target.limits().max_sessions.min(7);
    let mut watcher = Watcher::new(target)?;
    watcher.settle_alone()?;
    let (_others, expected) = crowd(target, &watcher, count)?;
    let rows = watcher.settle(&expected)?;
    let all = rows.len();
    let selections = [
        (vec![("Offset", 0)], 0..all),
        (vec![("Offset", 1)], 1..all),
        (vec![("Limit", 2)], 0..all.min(2)),
        (vec![("Limit", 1), ("Offset", 1)], 1..all.min(2)),
        (vec![("OFFSET", 2), ("limit", 1000)], all.min(2)..all),
        (vec![("Offset", 1000)], 0..0),
    ];
    for (keys, range) in selections {
        let got = watcher.list(&keys)?;
        same(&watcher, &rows[range], &got).map_err(|stop| stop.within(&format!("{keys:?}")))?;
    }
    Ok(())
}

/// Throughput connections until there are `count` in all, and the whole list as it must be then.
fn crowd(
    target: &mut dyn Target,
    watcher: &Watcher,
    count: usize,
) -> Result<(Vec<Client>, Vec<Who>), Stop> {
    let others = (1..count).map(|_| Client::throughput(target)).collect::<Result<Vec<_>, _>>()?;
    let mut expected: Vec<_> = others.iter().map(|client| who(client, "Throughput", "")).collect();
    expected.push(watcher.who());
    Ok((others, expected))
}

/// The same rows in the same order.
fn same(watcher: &Watcher, expected: &[Row], got: &[Row]) -> Outcome {
    let differs = |(at, (one, other)): (usize, (&Row, &Row))| (one.who != other.who).then_some(at);
    if expected.len() != got.len() {
        return Err(watcher
            .client
            .fail(&format!("{} rows", expected.len()), &format!("{} rows", got.len())));
    }
    match expected.iter().zip(got).enumerate().find_map(differs) {
        None => Ok(()),
        Some(at) => Err(watcher
            .client
            .fail(&format!("row {at}: {:?}", expected[at]), &format!("{:?}", got[at]))),
    }
}
