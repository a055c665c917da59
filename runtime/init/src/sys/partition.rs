//! Tells the kernel a partition's new size while the disk is in use (`BLKPG_RESIZE_PARTITION`).
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Error, Result};

const BLKPG_RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_partition` of linux/blkpg.h.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    devname: [u8; 64],
    volname: [u8; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArg {
    op: i32,
    flags: i32,
    datalen: i32,
    data: *mut BlkpgPartition,
}

nix::ioctl_write_ptr_bad!(blkpg, 0x1269, BlkpgArg);

/// Resizes partition `number` of an open disk; `start` and `length` are in bytes.
pub(crate) fn resize(disk: &File, path: &Path, number: u32, start: u64, length: u64) -> Result<()> {
    let mut partition = BlkpgPartition {
        start: start as i64,
        length: length as i64,
        number: number as i32,
        devname: [0; 64],
        volname: [0; 64],
    };
    let arg = BlkpgArg {
        op: BLKPG_RESIZE_PARTITION,
        flags: 0,
        datalen: size_of::<BlkpgPartition>() as i32,
        data: &raw mut partition,
    };
    // SAFETY: `arg` and the partition it points to are valid kernel structures and outlive the call.
    unsafe { blkpg(disk.as_raw_fd(), &arg) }
        .map_err(|e| Error::sys("tell the kernel the new size of the last partition of", path, e))?;
    Ok(())
}
