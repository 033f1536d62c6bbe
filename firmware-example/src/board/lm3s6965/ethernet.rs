//! The Ethernet controller as a device of smoltcp.
//!
//! The controller has its own memory for a few received frames and one to send; the processor copies words. One frame
//! in each direction is kept in RAM while smoltcp works on it.

use core::future::poll_fn;
use core::task::Poll;

use cortex_m::peripheral::NVIC;
use embassy_sync::waitqueue::AtomicWaker;
use lm3s6965::{Interrupt, interrupt};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::registers::{ethernet, port_f, system};

/// The longest frame without its checksum.
const FRAME: usize = 1514;
/// What the controller puts around a received frame: its length, and the frame's checksum.
const AROUND: usize = 2 + 4;
const RECEIVED: u32 = 1 << 0;
const ALL_INTERRUPTS: u32 = 0x7f;

static WAKER: AtomicWaker = AtomicWaker::new();

/// The network device.
pub(crate) struct Network {
    address: [u8; 6],
    receive: &'static mut [u8; FRAME],
    transmit: &'static mut [u8; FRAME],
}

impl Network {
    /// Starts the controller. To be called once.
    pub(super) fn start(address: [u8; 6]) -> Self {
        static RECEIVE: static_cell::ConstStaticCell<[u8; FRAME]> = static_cell::ConstStaticCell::new([0; FRAME]);
        static TRANSMIT: static_cell::ConstStaticCell<[u8; FRAME]> = static_cell::ConstStaticCell::new([0; FRAME]);
        const MAC_AND_PHY: u32 = 1 << 28 | 1 << 30;
        const LINK_LEDS: u32 = 1 << 2 | 1 << 3;
        const ENABLE_PAD_CRC_DUPLEX: u32 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4;
        const RESET_FIFO: u32 = 1 << 4;
        const ENABLE_REJECT_BAD: u32 = 1 << 0 | 1 << 3;
        system::RCGC2.set(MAC_AND_PHY);
        // A gated clock takes a few cycles to arrive.
        cortex_m::asm::delay(16);
        port_f::ALTERNATE.set(LINK_LEDS);
        port_f::DIGITAL.set(LINK_LEDS);
        ethernet::INTERRUPT_MASK.write(0);
        ethernet::INTERRUPTS.write(ALL_INTERRUPTS);
        let [a, b, c, d, e, f] = address;
        ethernet::ADDRESS_LOW.write(u32::from_le_bytes([a, b, c, d]));
        ethernet::ADDRESS_HIGH.write(u32::from_le_bytes([e, f, 0, 0]));
        // Send only whole frames: the copy into the controller may be interrupted.
        ethernet::THRESHOLD.write(0x3f);
        ethernet::RECEIVE.write(RESET_FIFO);
        ethernet::TRANSMIT.write(ENABLE_PAD_CRC_DUPLEX);
        ethernet::RECEIVE.write(ENABLE_REJECT_BAD);
        // SAFETY: the handler is below, and no critical section relies on masked interrupts.
        unsafe { NVIC::unmask(Interrupt::ETHERNET) };
        Self { address, receive: RECEIVE.take(), transmit: TRANSMIT.take() }
    }

    /// The device's own address.
    pub(crate) const fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Waits until a frame is there.
    pub(crate) async fn ready(&mut self) {
        poll_fn(|cx| {
            WAKER.register(cx.waker());
            if ethernet::PACKETS.read() > 0 {
                return Poll::Ready(());
            }
            // The status latches: a frame that came before this line interrupts after it.
            ethernet::INTERRUPT_MASK.write(RECEIVED);
            Poll::Pending
        })
        .await;
    }

    /// Moves the next frame into RAM; `None` if there is none, or a broken one.
    fn take_frame(&mut self) -> Option<usize> {
        ethernet::INTERRUPTS.write(RECEIVED);
        if ethernet::PACKETS.read() == 0 {
            return None;
        }
        let [low, high, first, second] = ethernet::DATA.read().to_le_bytes();
        let len = usize::from(u16::from_le_bytes([low, high])).saturating_sub(AROUND);
        if let Some(head) = self.receive.first_chunk_mut() {
            *head = [first, second];
        }
        // The checksum is read with the frame, up to a whole word, and dropped.
        let mut at = 2;
        while at < len + 4 {
            let word = ethernet::DATA.read().to_le_bytes();
            for byte in word {
                if let Some(place) = self.receive.get_mut(at) {
                    *place = byte;
                }
                at += 1;
            }
        }
        (14..=FRAME).contains(&len).then_some(len)
    }
}

#[interrupt]
fn ETHERNET() {
    ethernet::INTERRUPT_MASK.write(0);
    WAKER.wake();
}

impl phy::Device for Network {
    type RxToken<'a> = RxFrame<'a>;
    type TxToken<'a> = TxFrame<'a>;

    fn receive(&mut self, _: Instant) -> Option<(RxFrame<'_>, TxFrame<'_>)> {
        let len = self.take_frame()?;
        Some((RxFrame(self.receive.get(..len)?), TxFrame(self.transmit)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxFrame<'_>> {
        Some(TxFrame(self.transmit))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}

/// A received frame.
pub(crate) struct RxFrame<'a>(&'a [u8]);

impl phy::RxToken for RxFrame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame to send.
pub(crate) struct TxFrame<'a>(&'a mut [u8; FRAME]);

impl phy::TxToken for TxFrame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // smoltcp keeps to the capabilities above.
        let len = len.min(FRAME);
        let result = f(self.0.get_mut(..len).unwrap_or_default());
        send(self.0, len);
        result
    }
}

/// Gives a frame to the controller.
fn send(frame: &[u8; FRAME], len: usize) {
    const NEW: u32 = 1;
    // The one before takes 123 µs at 100 Mbit/s, 1.2 ms at 10; a controller that never gets it out loses this one.
    let mut patience = 20_000;
    while ethernet::REQUEST.read() & NEW != 0 {
        patience -= 1;
        if patience == 0 {
            return;
        }
    }
    let [low, high] = u16::try_from(len.saturating_sub(14)).unwrap_or(0).to_le_bytes();
    let [first, second, rest @ ..] = frame;
    ethernet::DATA.write(u32::from_le_bytes([low, high, *first, *second]));
    let (words, _) = rest.as_chunks();
    for word in words.iter().take(len.saturating_sub(2).div_ceil(4)) {
        ethernet::DATA.write(u32::from_le_bytes(*word));
    }
    ethernet::REQUEST.write(NEW);
}
