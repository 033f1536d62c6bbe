//! ST NUCLEO-F429ZI: Cortex-M4 at 168 MHz, 2 MiB of flash, 192 KiB of RAM, Ethernet with a LAN8742A on the board.

use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use defmt_rtt as _;
use embassy_net_driver::{Capabilities, Checksum, Driver, RxToken as _, TxToken as _};
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{ETH, ETH_SMA, IWDG};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{Config, bind_interrupts, peripherals, rcc, time::Hertz, uid};
use smoltcp::phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use static_cell::StaticCell;

use super::{Board, WATCHDOG_MS, fold};

/// The board's name.
pub(crate) const NAME: &str = "NUCLEO-F429ZI";
/// The part's RAM in bytes, without the 64 KiB that only the processor reaches.
pub(crate) const RAM: usize = 192 * 1024;

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
    HASH_RNG => rng::InterruptHandler<peripherals::RNG>;
});

/// Starts clocks and peripherals. To be called once, first of all.
pub(crate) fn start() -> Board {
    static QUEUE: StaticCell<PacketQueue<4, 4>> = StaticCell::new();
    let p = embassy_stm32::init(clocks());
    let mut random = [0; 8];
    Rng::new(p.RNG, Interrupts).fill_bytes(&mut random);
    let address = mac_address();
    let device = Ethernet::new(
        QUEUE.init_with(PacketQueue::new),
        p.ETH,
        Interrupts,
        p.PA1,
        p.PA7,
        p.PC4,
        p.PC5,
        p.PG13,
        p.PB13,
        p.PG11,
        address,
        p.ETH_SMA,
        p.PA2,
        p.PC1,
    );
    let mut watchdog = IndependentWatchdog::new(p.IWDG, WATCHDOG_MS * 1000);
    watchdog.unleash();
    Board {
        network: Network { device, address },
        led: Led(Output::new(p.PB0, Level::Low, Speed::Low)),
        watchdog: Watchdog(watchdog),
        random: u64::from_le_bytes(random),
    }
}

/// 168 MHz from the 8 MHz that the debugger's half of the board gives, and 48 MHz for the random numbers.
fn clocks() -> Config {
    let mut config = Config::default();
    config.rcc.hse = Some(rcc::Hse { freq: Hertz(8_000_000), mode: rcc::HseMode::Bypass });
    config.rcc.pll_src = rcc::PllSource::HSE;
    config.rcc.pll = Some(rcc::Pll {
        prediv: rcc::PllPreDiv::DIV4,
        mul: rcc::PllMul::MUL168,
        divp: Some(rcc::PllPDiv::DIV2),
        divq: Some(rcc::PllQDiv::DIV7),
        divr: None,
    });
    config.rcc.ahb_pre = rcc::AHBPrescaler::DIV1;
    config.rcc.apb1_pre = rcc::APBPrescaler::DIV4;
    config.rcc.apb2_pre = rcc::APBPrescaler::DIV2;
    config.rcc.sys = rcc::Sysclk::PLL1_P;
    config
}

/// An address for local use, made of the part's serial number: the maker gives none.
fn mac_address() -> [u8; 6] {
    let [a, b, c, d, e, ..] = fold(&uid::uid()).to_le_bytes();
    [0x02, a, b, c, d, e]
}

/// The green LED.
pub(crate) struct Led(Output<'static>);

impl Led {
    /// Switches the LED.
    pub(crate) fn set(&mut self, on: bool) {
        self.0.set_level(Level::from(on));
    }
}

/// The watchdog: resets the part when it has not been fed for as long as [`WATCHDOG_MS`].
pub(crate) struct Watchdog(IndependentWatchdog<'static, IWDG>);

impl Watchdog {
    /// Starts the time anew.
    pub(crate) fn feed(&mut self) {
        self.0.pet();
    }
}

type Device = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;

/// The network device: embassy's driver as smoltcp has it.
pub(crate) struct Network {
    device: Device,
    address: [u8; 6],
}

impl Network {
    /// The device's own address.
    pub(crate) const fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Waits until a frame is there.
    pub(crate) async fn ready(&mut self) {
        // A token that is dropped leaves its frame where it is.
        poll_fn(|cx| match self.device.receive(cx) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        })
        .await;
    }
}

impl phy::Device for Network {
    type RxToken<'a> = RxFrame<'a>;
    type TxToken<'a> = TxFrame<'a>;

    // `ready` registers the waker that counts.
    fn receive(&mut self, _: Instant) -> Option<(RxFrame<'_>, TxFrame<'_>)> {
        let (receive, transmit) = self.device.receive(&mut Context::from_waker(Waker::noop()))?;
        Some((RxFrame(receive), TxFrame(transmit)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxFrame<'_>> {
        self.device.transmit(&mut Context::from_waker(Waker::noop())).map(TxFrame)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let Capabilities { max_transmission_unit, max_burst_size, checksum, .. } = self.device.capabilities();
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = max_transmission_unit;
        capabilities.max_burst_size = max_burst_size;
        let mut stack = ChecksumCapabilities::default();
        stack.ipv4 = whose(checksum.ipv4);
        stack.tcp = whose(checksum.tcp);
        stack.udp = whose(checksum.udp);
        capabilities.checksum = stack;
        capabilities
    }
}

/// Which checksums are the stack's work.
fn whose(checksum: Checksum) -> phy::Checksum {
    match checksum {
        Checksum::Both => phy::Checksum::Both,
        Checksum::Rx => phy::Checksum::Rx,
        Checksum::Tx => phy::Checksum::Tx,
        Checksum::None => phy::Checksum::None,
    }
}

/// A received frame.
pub(crate) struct RxFrame<'a>(<Device as Driver>::RxToken<'a>);

impl phy::RxToken for RxFrame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        self.0.consume(|frame| f(frame))
    }
}

/// Room for a frame to send.
pub(crate) struct TxFrame<'a>(<Device as Driver>::TxToken<'a>);

impl phy::TxToken for TxFrame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.0.consume(len, f)
    }
}
