//! Doubly linked lists whose links live inside the entries they connect.
//!
//! The sweep keeps one list per slot of its wheel, the server one of connections that have proven
//! nothing yet. Entries are named by their index in a table, so there is nothing to allocate, and
//! joining or leaving a list costs the same however long it is.

/// Index that stands for "no entry".
const NONE: u32 = u32::MAX;

/// Set in [`Link::prev`] when what comes before is a list's head; the other bits name the list.
const HEAD: u32 = 1 << 31;

/// Largest number of entries that can be linked: the top bit of an index tells heads from entries.
pub const MAX_ENTRIES: usize = (HEAD - 1) as usize;

/// One entry's place in one list. A fresh link is in no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    /// A link that is in no list.
    pub const UNLINKED: Link = Link { prev: NONE, next: NONE };

    /// Whether the entry is in a list.
    #[must_use]
    pub const fn is_linked(&self) -> bool {
        self.prev != NONE
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::UNLINKED
    }
}

/// Where a list begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    first: u32,
    last: u32,
}

impl Head {
    /// A list without entries.
    pub const EMPTY: Head = Head { first: NONE, last: NONE };

    /// Whether the list has no entries.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.first == NONE
    }

    /// The index of the entry that has been in the list for longest.
    #[must_use]
    pub const fn first(self) -> Option<u32> {
        if self.is_empty() { None } else { Some(self.first) }
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Gives the link of the entry at an index.
pub(crate) trait Links {
    fn link_mut(&mut self, index: u32) -> &mut Link;
}

/// Adds an unlinked entry to the end of list number `list`.
pub(crate) fn push_back(head: &mut Head, list: u32, links: &mut impl Links, index: u32) {
    let end = HEAD | list;
    if head.is_empty() {
        *links.link_mut(index) = Link { prev: end, next: end };
        head.first = index;
    } else {
        *links.link_mut(index) = Link { prev: head.last, next: end };
        links.link_mut(head.last).next = index;
    }
    head.last = index;
}

/// Takes an entry out of the list it is in, if any. `heads` must hold that list's head.
pub(crate) fn unlink(heads: &mut [Head], links: &mut impl Links, index: u32) {
    let link = core::mem::take(links.link_mut(index));
    if !link.is_linked() {
        return;
    }
    let (first, last) = (link.prev & HEAD != 0, link.next & HEAD != 0);
    let list = if first { link.prev } else { link.next } & !HEAD;
    match (first, last) {
        (true, true) => {
            if let Some(head) = heads.get_mut(list as usize) {
                *head = Head::EMPTY;
            }
        }
        (true, false) => {
            if let Some(head) = heads.get_mut(list as usize) {
                head.first = link.next;
            }
            links.link_mut(link.next).prev = link.prev;
        }
        (false, true) => {
            if let Some(head) = heads.get_mut(list as usize) {
                head.last = link.prev;
            }
            links.link_mut(link.prev).next = link.next;
        }
        (false, false) => {
            links.link_mut(link.prev).next = link.next;
            links.link_mut(link.next).prev = link.prev;
        }
    }
}

/// Moves all entries of `from` (any number) into the empty list `to`, whose number is `list`.
pub(crate) fn move_all(from: &mut Head, to: &mut Head, list: u32, links: &mut impl Links) {
    *to = core::mem::take(from);
    if !to.is_empty() {
        links.link_mut(to.first).prev = HEAD | list;
        links.link_mut(to.last).next = HEAD | list;
    }
}
