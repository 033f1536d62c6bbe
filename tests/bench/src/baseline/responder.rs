//! The work that every shape does on what it reads: packets cut out of the stream, heartbeats answered.

use crate::dialect::{FLAG_CONTROL, HEARTBEAT_COMMAND, HEARTBEAT_REPLY, MAX_TOTAL};

/// A heartbeat's bytes, the largest packet a shape serves.
const PACKET: usize = 8 + HEARTBEAT_COMMAND.len();
const REPLY: usize = 8 + HEARTBEAT_REPLY.len();

/// A peer that says something else than heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// What one connection must remember between reads.
#[derive(Debug)]
pub struct Responder {
    flag_seen: bool,
    /// Bytes of a packet that a read has split.
    held: u8,
    partial: [u8; PACKET],
}

impl Default for Responder {
    fn default() -> Self {
        Self { flag_seen: false, held: 0, partial: [0; PACKET] }
    }
}

impl Responder {
    /// Takes all of `input` and appends the replies to `output`.
    pub fn respond(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        if !self.flag_seen {
            let Some((&flag, rest)) = input.split_first() else {
                return Ok(());
            };
            if flag != FLAG_CONTROL {
                return Err(Refused);
            }
            self.flag_seen = true;
            input = rest;
        }
        if self.held > 0 {
            input = self.complete(input, output)?;
        }
        while let Some(length) = packet_length(input)? {
            let Some((packet, rest)) = input.split_at_checked(length) else {
                break;
            };
            answer(packet, output)?;
            input = rest;
        }
        self.hold(input)
    }

    /// Adds to the packet that an earlier read has split.
    fn complete<'a>(&mut self, input: &'a [u8], output: &mut Vec<u8>) -> Result<&'a [u8], Refused> {
        let held = usize::from(self.held);
        let n = input.len().min(PACKET - held);
        let reached = held + n;
        self.partial[held..reached].copy_from_slice(&input[..n]);
        let Some(length) =
            packet_length(&self.partial[..reached])?.filter(|&length| length <= reached)
        else {
            self.held = u8::try_from(reached).map_err(|_| Refused)?;
            return Ok(&input[n..]);
        };
        answer(&self.partial[..length], output)?;
        self.held = 0;
        Ok(&input[length - held..])
    }

    fn hold(&mut self, rest: &[u8]) -> Result<(), Refused> {
        if rest.is_empty() {
            return Ok(());
        }
        self.partial.get_mut(..rest.len()).ok_or(Refused)?.copy_from_slice(rest);
        self.held = u8::try_from(rest.len()).map_err(|_| Refused)?;
        Ok(())
    }
}

/// The length of the packet that `bytes` begin, once its header is there.
fn packet_length(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    let Some((header, _)) = bytes.split_first_chunk::<8>() else {
        return Ok(None);
    };
    let [a, b, c, d, e, f, g, h] = *header;
    let total = u32::from_le_bytes([a, b, c, d]) as usize;
    let command = u32::from_le_bytes([e, f, g, h]) as usize;
    let plausible = (4..=MAX_TOTAL).contains(&total) && command <= total - 4;
    if !plausible || total + 4 > PACKET {
        return Err(Refused);
    }
    Ok(Some(total + 4))
}

fn answer(packet: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
    let command = packet.get(8..).ok_or(Refused)?;
    if command != HEARTBEAT_COMMAND.as_bytes() {
        return Err(Refused);
    }
    output.extend_from_slice(&REPLY_PACKET);
    Ok(())
}

const REPLY_PACKET: [u8; REPLY] = {
    let mut packet = [0; REPLY];
    packet[0] = (REPLY - 4) as u8;
    packet[4] = (REPLY - 8) as u8;
    let text = HEARTBEAT_REPLY.as_bytes();
    let mut at = 0;
    while at < text.len() {
        packet[8 + at] = text[at];
        at += 1;
    }
    packet
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Dialect, Exchange, Speaks, packet};

    #[test]
    fn any_split_gives_the_same_replies() {
        let exchange = Exchange::new(Dialect::Heartbeat, Speaks::Protocol);
        let mut stream = exchange.opening();
        stream.extend(exchange.request.repeat(4));
        for step in 1..=stream.len() {
            let mut responder = Responder::default();
            let mut output = Vec::new();
            for piece in stream.chunks(step) {
                responder.respond(piece, &mut output).unwrap();
            }
            assert_eq!(output, exchange.reply.repeat(5), "in pieces of {step}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let mut output = Vec::new();
        assert_eq!(Responder::default().respond(&[5], &mut output), Err(Refused));
        let mut wrong = vec![8];
        wrong.extend(packet("[Request]\r\nCommand=Passiv", &[]));
        assert_eq!(Responder::default().respond(&wrong, &mut output), Err(Refused));
        assert_eq!(
            Responder::default().respond(&[8, 0, 0, 0, 29, 0, 0, 0, 25], &mut output),
            Err(Refused)
        );
        assert!(output.is_empty());
    }
}
