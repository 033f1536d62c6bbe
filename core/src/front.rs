//! Text that is written into lent memory.

use core::fmt::{self, Write};

/// A buffer that is filled from the front; what does not fit is an error and leaves it as it was.
pub(crate) struct Front<'b> {
    pub(crate) buf: &'b mut [u8],
    /// Bytes that are filled.
    pub(crate) len: usize,
}

impl<'b> Front<'b> {
    pub(crate) const fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, len: 0 }
    }
}

impl Write for Front<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let to = self.buf.get_mut(self.len..self.len + s.len()).ok_or(fmt::Error)?;
        to.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}
