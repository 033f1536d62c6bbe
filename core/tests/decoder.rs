//! The decoder against any split of any stream.

use proptest::collection::vec;
use proptest::prelude::*;
use pulsegate_core::frame::{ByteOrder, Decoder, HEADER_LEN, Header, LengthError, Limits, Step};

/// A socket's input: bytes arrive in pieces and stay until they are consumed.
struct Input<'a> {
    arrived: Vec<u8>,
    to_come: &'a [u8],
    pieces: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Input<'_> {
    /// The next piece arrives; `false` when there is none.
    fn receive(&mut self) -> bool {
        let len = self.pieces.next().copied().unwrap_or(1).min(self.to_come.len());
        let (piece, rest) = self.to_come.split_at(len);
        self.arrived.extend_from_slice(piece);
        self.to_come = rest;
        len > 0
    }
}

type Packets = Vec<(Vec<u8>, Vec<u8>)>;

fn wire(packets: &Packets, order: ByteOrder) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (command, data) in packets {
        bytes.extend(Header::new(command.len(), data.len()).unwrap().to_bytes(order));
        bytes.extend(command);
        bytes.extend(data);
    }
    bytes
}

fn decode(wire: &[u8], limits: &Limits, pieces: &[usize], gulps: &[usize]) -> Packets {
    let mut input = Input { arrived: Vec::new(), to_come: wire, pieces: pieces.iter().cycle() };
    let mut gulps = gulps.iter().cycle();
    let (mut decoder, mut packets) = (Decoder::new(), Packets::new());
    loop {
        let consumed = match decoder.look(&input.arrived, limits).unwrap() {
            Step::Need(want) => {
                assert!(want > input.arrived.len() && want <= limits.longest_head());
                if !input.receive() {
                    return packets;
                }
                continue;
            }
            Step::Packet(packet) => {
                packets.push((packet.command.to_vec(), Vec::new()));
                decoder.begin(packet.data_len);
                packet.head_len()
            }
            Step::Data(piece) => {
                let len = piece.len().min(*gulps.next().unwrap());
                packets.last_mut().unwrap().1.extend_from_slice(&piece[..len]);
                decoder.pass(len);
                len
            }
        };
        input.arrived.drain(..consumed);
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_packets(
        packets in vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..200)), 0..12),
        pieces in vec(1usize..70, 1..30),
        gulps in vec(1usize..50, 1..10),
        big in any::<bool>(),
    ) {
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let limits = Limits { packet: 1000, command: 64, order };
        prop_assert_eq!(decode(&wire(&packets, order), &limits, &pieces, &gulps), packets);
    }

    #[test]
    fn no_bytes_whatever_make_it_stumble(
        bytes in vec(any::<u8>(), 0..40),
        packet in any::<u32>(),
        command in any::<u32>(),
        left in 0u32..10,
    ) {
        let limits = Limits { packet, command, order: ByteOrder::Little };
        let mut decoder = Decoder::new();
        decoder.begin(left);
        match decoder.look(&bytes, &limits) {
            Ok(Step::Need(want)) => prop_assert!(want > bytes.len()),
            Ok(Step::Packet(packet)) => {
                prop_assert!(left == 0);
                prop_assert!(packet.head_len() <= bytes.len() && packet.command.len() <= command as usize);
            }
            Ok(Step::Data(piece)) => prop_assert!(!piece.is_empty() && piece.len() <= left as usize),
            Err(_) => prop_assert!(bytes.len() >= HEADER_LEN),
        }
    }
}

fn judge(total_len: u32, command_len: u32) -> Result<(), LengthError> {
    let bytes = Header { total_len, command_len }.to_bytes(ByteOrder::Little);
    Decoder::new().look(&bytes, &Limits::HOST).map(|_| ())
}

#[test]
fn every_rule_of_the_lengths() {
    const MAX: u32 = 10 * 1024 * 1024;
    assert_eq!(judge(MAX, 0), Ok(()));
    assert_eq!(judge(MAX + 1, 0), Err(LengthError::PacketTooLong));
    assert_eq!(judge(4, 0), Ok(()));
    assert_eq!(judge(3, 0), Err(LengthError::PacketTooShort));
    assert_eq!(judge(14, 10), Ok(()));
    assert_eq!(judge(13, 10), Err(LengthError::CommandBeyondPacket));
    assert_eq!(judge(4100, 4096), Ok(()));
    assert_eq!(judge(4101, 4097), Err(LengthError::CommandTooLong));
    assert_eq!(judge(u32::MAX, u32::MAX), Err(LengthError::PacketTooLong));
}

#[test]
fn lengths_in_the_wrong_order_are_named() {
    let heartbeat = [0, 0, 0, 0x1d, 0, 0, 0, 0x19];
    let error = Decoder::new().look(&heartbeat, &Limits::HOST).unwrap_err();
    assert_eq!(error, LengthError::WrongByteOrder);
    assert!(error.message().contains("big-endian"));
    let big = Limits { order: ByteOrder::Big, ..Limits::HOST };
    assert_eq!(Decoder::new().look(&heartbeat, &big), Ok(Step::Need(33)));
    // Wrong in either order: the rule that is broken, and no guess.
    let nonsense = [0xff; 8];
    assert_eq!(Decoder::new().look(&nonsense, &Limits::HOST), Err(LengthError::PacketTooLong));
}

#[test]
fn headers_are_not_made_over_the_limit() {
    assert!(Header::new(34, 10 * 1024 * 1024 - 38).is_some());
    assert_eq!(Header::new(34, 10 * 1024 * 1024 - 37), None);
    assert_eq!(Header::new(usize::MAX, 0), None);
    assert_eq!(Header::new(u32::MAX as usize, u32::MAX as usize), None);
}
