//! How deep the stack has been: the runtime paints it before the program begins.

use core::ptr::addr_of;

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    // From the linker script: the stack grows from its start down to its end.
    static _stack_start: u32;
    static _stack_end: u32;
}

/// The stack's size and the part of it that has never been touched, in bytes.
pub(crate) fn size_and_spare() -> (usize, usize) {
    let top = addr_of!(_stack_start);
    let end = addr_of!(_stack_end);
    let size = top.addr() - end.addr();
    let mut untouched = 0;
    while untouched < size {
        // SAFETY: an aligned word of the stack's memory, which no reference covers; a word in use is only read.
        let word = unsafe { end.byte_add(untouched).read_volatile() };
        if word != STACK_PAINT_VALUE {
            break;
        }
        untouched += size_of::<u32>();
    }
    (size, untouched)
}
