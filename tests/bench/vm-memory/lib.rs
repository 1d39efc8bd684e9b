// SPDX-License-Identifier: MIT
//! What `kvmas-bench lookup` compares the library with: rust-vmm's vm-memory, in its two ways, as
//! loops that C can call. Each address is looked up once the one before it is found (`nothing` is 0,
//! which the compiler does not know), and how far it lies behind its region's start is summed up, so
//! that all ways can be seen to have found the same. See vm-memory.h, and field.c.

use std::os::raw::c_int;
use std::slice;
use std::sync::Arc;

use vm_memory::{
    GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryAtomic, GuestMemoryMmap,
    GuestMemoryRegion,
};

pub struct VmMemory {
    published: GuestMemoryAtomic<GuestMemoryMmap<()>>,
}

fn offset_in(memory: &GuestMemoryMmap<()>, address: u64) -> u64 {
    match memory.find_region(GuestAddress(address)) {
        Some(region) => address - region.start_addr().0,
        None => 0,
    }
}

/// Make `count` regions of `size` bytes. Returns 0, or -1 if they cannot be had.
///
/// # Safety
/// `starts` has `count` ascending addresses; `ret` can be written.
#[no_mangle]
pub unsafe extern "C" fn vm_memory_new(
    starts: *const u64,
    count: usize,
    size: usize,
    ret: *mut *mut VmMemory,
) -> c_int {
    let ranges: Vec<_> = slice::from_raw_parts(starts, count)
        .iter()
        .map(|start| (GuestAddress(*start), size))
        .collect();
    match GuestMemoryMmap::from_ranges(&ranges) {
        Ok(memory) => {
            let published = GuestMemoryAtomic::from(Arc::new(memory));
            *ret = Box::into_raw(Box::new(VmMemory { published }));
            0
        }
        Err(_) => -1,
    }
}

/// # Safety
/// `memory` is from vm_memory_new, or null.
#[no_mangle]
pub unsafe extern "C" fn vm_memory_free(memory: *mut VmMemory) {
    if !memory.is_null() {
        drop(Box::from_raw(memory));
    }
}

/// # Safety
/// `memory` is from vm_memory_new; there are `count` addresses.
#[no_mangle]
pub unsafe extern "C" fn vm_memory_find_held(
    memory: *const VmMemory,
    addresses: *const u64,
    count: usize,
    nothing: u64,
) -> u64 {
    let snapshot = (*memory).published.memory();
    let mut sum = 0u64;

    for address in slice::from_raw_parts(addresses, count) {
        let address = *address + (sum & nothing);

        sum = sum.wrapping_add(offset_in(&snapshot, address));
    }
    sum
}

/// # Safety
/// As for vm_memory_find_held.
#[no_mangle]
pub unsafe extern "C" fn vm_memory_find_each(
    memory: *const VmMemory,
    addresses: *const u64,
    count: usize,
    nothing: u64,
) -> u64 {
    let mut sum = 0u64;

    for address in slice::from_raw_parts(addresses, count) {
        let address = *address + (sum & nothing);

        sum = sum.wrapping_add(offset_in(&(*memory).published.memory(), address));
    }
    sum
}
