//! Segments made by hand.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpEndpoint, IpProtocol,
    Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::site::{ADDRESS, HARDWARE, PORT};

/// A SYN for the gateway, from whatever address it claims.
#[must_use]
pub fn syn(hardware: EthernetAddress, from: IpEndpoint, sequence: i32) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: from.port,
        dst_port: PORT,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(sequence),
        ack_number: None,
        window_len: 1024,
        window_scale: None,
        max_seg_size: Some(536),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let smoltcp::wire::IpAddress::Ipv4(source) = from.addr;
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: ADDRESS,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let ethernet =
        EthernetRepr { src_addr: hardware, dst_addr: HARDWARE, ethertype: EthernetProtocol::Ipv4 };
    let head = ethernet.buffer_len() + ip.buffer_len();
    let mut frame = vec![0; head + tcp.buffer_len()];
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[ethernet.buffer_len()..]), &checksums);
    tcp.emit(
        &mut TcpPacket::new_unchecked(&mut frame[head..]),
        &source.into(),
        &ADDRESS.into(),
        &checksums,
    );
    frame
}
