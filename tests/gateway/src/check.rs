//! What is true of the pool after each poll.

use embassy_time::Instant;
use pulsegate_core::adapter::smoltcp::{Gateway, SlotState, StackAddress};
use pulsegate_core::app::App;
use pulsegate_core::protocol::Iocp;
use pulsegate_core::server::Memory;
use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp;

use crate::site::Setup;

/// Panics where the pool is not as it must be.
pub(crate) fn pool<A, M>(
    now: Instant,
    setup: &Setup,
    gateway: &Gateway<'_, Iocp<A>, M>,
    sockets: &SocketSet<'_>,
) where
    A: App<Address: StackAddress>,
    M: Memory<Iocp<A>>,
{
    let config = &setup.gateway.pool;
    let slots: Vec<_> = gateway.slots().collect();
    assert_eq!(slots.len(), setup.sockets, "a socket is missing");
    assert!(slots.is_sorted_by(|(one, _), (other, _)| one < other), "out of order");
    let free = |state: &SlotState| matches!(state, SlotState::Listening | SlotState::Idle);
    let in_order = slots.is_sorted_by_key(|(_, state)| free(state));
    assert!(in_order, "a listening socket in front of a connection: {slots:?}");
    let sessions = gateway.server().sessions();
    let mut serving = 0;
    for (handle, state) in &slots {
        let socket = sockets.get::<tcp::Socket<'_>>(*handle);
        let (stack, remote) = (socket.state(), socket.remote_endpoint());
        match *state {
            SlotState::Listening => assert_eq!(stack, tcp::State::Listen),
            SlotState::Handshake { since } => {
                assert_eq!(stack, tcp::State::SynReceived);
                assert!(now < since + config.handshake, "a handshake since {since}");
            }
            SlotState::Serving(id) => {
                serving += 1;
                let session = sessions.get(id).expect("a session for its socket");
                if let Some(remote) = remote.and_then(A::Address::from_stack) {
                    assert_eq!(session.remote(), remote, "another one's socket");
                }
            }
            SlotState::Closing { until } => assert!(now < until && until <= now + config.close),
            SlotState::Aborting { until } => {
                assert_eq!(stack, tcp::State::Closed);
                assert!(now < until && until <= now + config.abort);
            }
            SlotState::Resting { until } => {
                assert_eq!((stack, remote), (tcp::State::Closed, None));
                assert!(now < until);
            }
            SlotState::Idle => assert_eq!((stack, remote), (tcp::State::Closed, None)),
        }
    }
    assert_eq!(serving, sessions.len(), "each session has one socket");
}
