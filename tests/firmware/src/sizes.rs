//! Flash and RAM of the images, whose they are, and whether they have grown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, SectionFlags, SectionKind};

/// The limits that the firmware is held to, whatever was recorded.
const MOST_FLASH: u64 = 80 * 1024;
/// The core with Control and Throughput; LogOutput comes on top.
const MOST_CORE: u64 = 16 * 1024;
/// Growth beyond this, in percent, fails.
const TOLERANCE: u64 = 5;
/// Optional features whose cost is listed.
const FEATURES: [&str; 1] = ["dhcp"];

/// How much a share may grow in any case: the compiler draws the lines between them anew each time.
const SHARE_SLACK: u64 = 512;

/// Name and bytes.
pub(crate) type Figures = BTreeMap<String, u64>;

/// Measures, prints, and compares with `sizes.txt`, or writes it.
pub(crate) fn check(root: &Path, record: bool) -> Result<()> {
    let image = crate::image::build(root, &[])?;
    let mut figures = measure(&image)?;
    let flash = figures.get("flash").copied().unwrap_or(0);
    for feature in FEATURES {
        let with = measure(&crate::image::build(root, &[feature])?)?;
        let more = with.get("flash").copied().unwrap_or(0).saturating_sub(flash);
        figures.insert(format!("feature {feature}"), more);
    }
    let mut text = String::new();
    for (name, bytes) in &figures {
        writeln!(text, "{name}: {bytes}")?;
    }
    print!("release image for the LM3S6965, bytes:\n{text}");
    let file = root.join("tests/firmware/sizes.txt");
    if record {
        std::fs::write(&file, &text)?;
    }
    let files = figures.get(&format!("code of pulsegate-core for {FILES}")).copied().unwrap_or(0);
    ensure!(files == 0, "{files} bytes of the core are for {FILES}, and the firmware has none");
    ensure!(flash <= MOST_FLASH, "{flash} bytes of flash are more than {MOST_FLASH}");
    let share = |of: &str| figures.get(of).copied().unwrap_or(0);
    let log = share("code of pulsegate-core for LogOutput");
    let core = share("code of pulsegate-core") - log;
    ensure!(
        core <= MOST_CORE,
        "{core} bytes of the core, without LogOutput, are more than {MOST_CORE}"
    );
    let recorded =
        std::fs::read_to_string(&file).with_context(|| format!("{} is missing", file.display()))?;
    compare(&parse(&recorded)?, &figures)?;
    println!("ok    sizes are within {TOLERANCE} % of those recorded");
    Ok(())
}

pub(crate) fn parse(text: &str) -> Result<Figures> {
    let figure = |line: &str| {
        let (name, bytes) = line.rsplit_once(": ")?;
        Some((name.to_owned(), bytes.parse().ok()?))
    };
    text.lines()
        .map(|line| figure(line).with_context(|| format!("sizes.txt: {line:?} is no figure")))
        .collect()
}

fn compare(recorded: &Figures, figures: &Figures) -> Result<()> {
    for (name, &bytes) in figures {
        let &before = recorded
            .get(name)
            .with_context(|| format!("sizes.txt lacks {name:?}; record it anew"))?;
        let slack = if name.starts_with("code of") { SHARE_SLACK } else { 0 };
        let limit = before + (before * TOLERANCE / 100).max(slack);
        ensure!(
            bytes <= limit,
            "{name} has grown from {before} to {bytes} bytes; if it must, type: cargo run -p pulsegate-firmware-tests -- sizes --record"
        );
    }
    Ok(())
}

fn measure(image: &Path) -> Result<Figures> {
    let bytes = std::fs::read(image)?;
    let file = object::File::parse(&*bytes)?;
    let mut figures = Figures::new();
    let mut code = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        if sh_flags & u64::from(object::elf::SHF_ALLOC) == 0 {
            continue;
        }
        let in_ram = section.address() >= 0x2000_0000;
        if in_ram {
            *figures.entry("RAM, static".to_owned()).or_default() += section.size();
        }
        if section.kind() != SectionKind::UninitializedData && section.name()? != ".uninit" {
            *figures.entry("flash".to_owned()).or_default() += section.size();
        }
        if section.kind() == SectionKind::Text {
            code.push((section.address(), section.size()));
        }
    }
    shares(image, &code, &mut figures)?;
    Ok(figures)
}

/// Whose each instruction is: the code it stands in, where parts of Rust's library that were inlined count as the
/// code that uses them.
fn shares(image: &Path, code: &[(u64, u64)], figures: &mut Figures) -> Result<()> {
    let loader = addr2line::Loader::new(image)
        .map_err(|error| anyhow::anyhow!("no debug information: {error}"))?;
    for &(begin, size) in code {
        for address in (begin..begin + size).step_by(2) {
            *figures.entry(format!("code of {}", whose(&loader, address)?)).or_default() += 2;
            if let Some(protocol) = protocol(&loader, address)? {
                *figures.entry(format!("code of pulsegate-core for {protocol}")).or_default() += 2;
            }
        }
    }
    Ok(())
}

/// Which protocol an instruction serves alone; what all of them share serves none.
fn protocol(loader: &addr2line::Loader, address: u64) -> Result<Option<&'static str>> {
    let mut frames = loader
        .find_frames(address)
        .map_err(|error| anyhow::anyhow!("no debug information: {error}"))?;
    while let Ok(Some(frame)) = frames.next() {
        let file = frame.location.and_then(|location| location.file).unwrap_or_default();
        let found = PROTOCOLS.iter().find(|(part, _)| file.contains(part));
        if let Some((_, protocol)) = found {
            return Ok(Some(protocol));
        }
    }
    Ok(None)
}

/// Upload, Download and RemoteStream together: what they share is as much as what each has alone.
const FILES: &str = "files";

/// The files of the core that stand for one protocol alone.
const PROTOCOLS: [(&str, &str); 11] = [
    ("/core/src/protocol/control.rs", "Control"),
    ("/core/src/roster.rs", "Control"),
    ("/core/src/protocol/throughput.rs", "Throughput"),
    ("/core/src/protocol/log_output.rs", "LogOutput"),
    ("/core/src/tail.rs", "LogOutput"),
    ("/core/src/protocol/upload.rs", FILES),
    ("/core/src/protocol/download.rs", FILES),
    ("/core/src/protocol/remote_stream.rs", FILES),
    ("/core/src/protocol/files.rs", FILES),
    ("/core/src/path.rs", FILES),
    ("/core/src/store", FILES),
];

/// Whose the instruction at an address is.
pub(crate) fn whose(loader: &addr2line::Loader, address: u64) -> Result<&'static str> {
    let mut whose = "others";
    let mut frames = loader
        .find_frames(address)
        .map_err(|error| anyhow::anyhow!("no debug information: {error}"))?;
    while let Ok(Some(frame)) = frames.next() {
        whose = owner(frame.location.and_then(|location| location.file).unwrap_or_default());
        if whose != LIBRARY {
            break;
        }
    }
    Ok(whose)
}

const LIBRARY: &str = "Rust's library";

fn owner(file: &str) -> &'static str {
    const OWNERS: [(&str, &str); 7] = [
        ("/smoltcp-", "smoltcp"),
        ("/embassy-", "embassy"),
        ("/defmt", "defmt"),
        ("/library/", LIBRARY),
        ("/compiler_builtins", LIBRARY),
        ("/core/src/adapter/", "pulsegate-core's adapter for smoltcp"),
        ("/core/src/", "pulsegate-core"),
    ];
    let own = file.contains("firmware-example") || file.starts_with("src/");
    if own {
        return "the firmware";
    }
    OWNERS.iter().find(|(part, _)| file.contains(part)).map_or("others", |(_, owner)| owner)
}
