//! The gateway's own address: the one of `gateway.toml`, or one from a DHCP server.

use defmt::info;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::wire::{IpCidr, Ipv4Address, Ipv4Cidr};

/// Gives the interface its address.
pub(crate) struct Address {
    #[cfg(feature = "dhcp")]
    handle: smoltcp::iface::SocketHandle,
}

#[cfg(not(feature = "dhcp"))]
impl Address {
    /// Sets the address.
    pub(crate) fn start(iface: &mut Interface, _: &mut SocketSet<'_>) -> Self {
        use crate::settings::{ADDRESS, PREFIX, ROUTER};
        set(iface, Ipv4Cidr::new(ADDRESS, PREFIX), Some(ROUTER));
        Self {}
    }

    /// Nothing changes it.
    pub(crate) fn poll(&mut self, _: &mut Interface, _: &mut SocketSet<'_>) {}
}

#[cfg(feature = "dhcp")]
impl Address {
    /// Adds the DHCP client; it asks from the first poll on.
    pub(crate) fn start(_: &mut Interface, sockets: &mut SocketSet<'_>) -> Self {
        Self { handle: sockets.add(smoltcp::socket::dhcpv4::Socket::new()) }
    }

    /// Takes what the DHCP server has given, or taken back.
    pub(crate) fn poll(&mut self, iface: &mut Interface, sockets: &mut SocketSet<'_>) {
        use smoltcp::socket::dhcpv4::{Event, Socket};
        match sockets.get_mut::<Socket<'_>>(self.handle).poll() {
            Some(Event::Configured(lease)) => set(iface, lease.address, lease.router),
            Some(Event::Deconfigured) => {
                info!("no address");
                iface.update_ip_addrs(|addresses| addresses.clear());
                iface.routes_mut().remove_default_ipv4_route();
            }
            None => {}
        }
    }
}

fn set(iface: &mut Interface, address: Ipv4Cidr, router: Option<Ipv4Address>) {
    info!("address {}/{}", address.address(), address.prefix_len());
    iface.update_ip_addrs(|addresses| {
        addresses.clear();
        // It has room for one at least.
        let _ = addresses.push(IpCidr::Ipv4(address));
    });
    iface.routes_mut().remove_default_ipv4_route();
    if let Some(router) = router {
        // It has room for one at least.
        let _ = iface.routes_mut().add_default_ipv4_route(router);
    }
}
