//! The memory of the process: jemalloc has the small blocks, the kernel maps the large ones.
//!
//! A block that jemalloc grows exists twice while its bytes are copied. The kernel moves the pages
//! of a mapped block instead. A buffer that doubles therefore takes no more memory than the bytes
//! that it holds, and a freed block is free at once. `memory.limit` depends on both.

use std::{
    alloc::{GlobalAlloc, Layout},
    ptr,
};

use tikv_jemallocator::Jemalloc;

/// From this size on, a copy costs more than a system call.
const LARGE_BYTES: usize = 4 << 20;
/// The kernel aligns a mapped block at least to this.
const PAGE_BYTES: usize = 4096;

/// The allocator of the process. The layout of a block decides who holds it: its owner gives the
/// same layout back when it frees the block.
pub(crate) struct Allocator;

fn is_mapped(layout: Layout) -> bool {
    layout.size() >= LARGE_BYTES && layout.align() <= PAGE_BYTES
}

/// The address of `size` new bytes, all zero.
fn map(size: usize) -> *mut u8 {
    // SAFETY: a new private mapping at an address that the kernel chooses touches no other memory.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    or_null(address)
}

/// What the kernel returns on failure, as an allocator returns it.
fn or_null(address: *mut libc::c_void) -> *mut u8 {
    if address == libc::MAP_FAILED {
        ptr::null_mut()
    } else {
        address.cast()
    }
}

// SAFETY: `is_mapped` gives the same answer for the same layout, so each block is freed and grown
// by the side that allocated it. Mapped blocks are aligned to a page, never overlap, and are zero
// when they are new. On failure both sides return null and leave the old block as it was.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_mapped(layout) {
            map(layout.size())
        } else {
            // SAFETY: the caller keeps the rules of this function, which are those of `Jemalloc`.
            unsafe { Jemalloc.alloc(layout) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mapped(layout) {
            map(layout.size())
        } else {
            // SAFETY: as in `alloc`.
            unsafe { Jemalloc.alloc_zeroed(layout) }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_mapped(layout) {
            // SAFETY: `block` is a mapping of this size, and nobody uses it any more. The call
            // fails only for other addresses.
            unsafe { libc::munmap(block.cast(), layout.size()) };
        } else {
            // SAFETY: as in `alloc`.
            unsafe { Jemalloc.dealloc(block, layout) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that `new_size` is a valid size for this alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (is_mapped(layout), is_mapped(new_layout)) {
            // SAFETY: as in `alloc`.
            (false, false) => unsafe { Jemalloc.realloc(block, layout, new_size) },
            // SAFETY: `block` is a mapping of this size, and only the caller uses it.
            (true, true) => or_null(unsafe {
                libc::mremap(block.cast(), layout.size(), new_size, libc::MREMAP_MAYMOVE)
            }),
            // SAFETY: both blocks hold as many bytes as are copied, and the new one is another.
            _ => unsafe {
                let new_block = self.alloc(new_layout);
                if !new_block.is_null() {
                    ptr::copy_nonoverlapping(block, new_block, layout.size().min(new_size));
                    self.dealloc(block, layout);
                }
                new_block
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes on both sides of the limit between the allocators, odd ones included.
    const SIZES: [usize; 8] = [
        1,
        100_000,
        LARGE_BYTES - 1,
        LARGE_BYTES,
        LARGE_BYTES + 1,
        3 * LARGE_BYTES + 4097,
        LARGE_BYTES / 2,
        8,
    ];

    fn pattern(index: usize) -> u8 {
        u8::try_from(index % 251).unwrap()
    }

    #[test]
    fn bytes_survive_each_way_to_grow_and_to_shrink() {
        for align in [1, 64, 2 * PAGE_BYTES] {
            for (from, to) in SIZES.iter().flat_map(|from| SIZES.map(|to| (*from, to))) {
                let old = Layout::from_size_align(from, align).unwrap();
                let new = Layout::from_size_align(to, align).unwrap();
                // SAFETY: each block is used within its size, and freed once with its layout.
                unsafe {
                    let block = Allocator.alloc(old);
                    assert_eq!(block.addr() % align, 0);
                    (0..from).for_each(|index| block.add(index).write(pattern(index)));
                    let block = Allocator.realloc(block, old, to);
                    assert_eq!(block.addr() % align, 0);
                    assert!(
                        (0..from.min(to)).all(|index| block.add(index).read() == pattern(index))
                    );
                    Allocator.dealloc(block, new);
                }
            }
        }
    }

    #[test]
    fn zeroed_blocks_are_zero() {
        for size in SIZES {
            let layout = Layout::from_size_align(size, 64).unwrap();
            // SAFETY: as above.
            unsafe {
                let block = Allocator.alloc_zeroed(layout);
                assert!((0..size).all(|index| block.add(index).read() == 0));
                Allocator.dealloc(block, layout);
            }
        }
    }
}
