//! Loop devices: a file shown as a block device, by `LOOP_CONFIGURE` (Linux 5.8).
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// The squashfs and the hash tree are in blocks of this size.
const BLOCK_SIZE: u32 = 4096;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, LoopConfig);

/// A read-only loop device over a file. The kernel frees it when its last user is gone, so keep this handle until
/// something else (device mapper) holds the device.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    /// Its node, such as `/dev/loop0`.
    pub(crate) path: PathBuf,
    _open: File,
}

/// Attaches `file` to a free loop device, read-only and with direct I/O (no second copy of the root in the page cache).
pub(crate) fn attach(file: &Path) -> Result<LoopDevice> {
    let backing = File::open(file).map_err(|e| Error::io("open", file, e))?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(|e| Error::io("open", "/dev/loop-control", e))?;
    // SAFETY: the request takes no argument and returns an index.
    let index = unsafe { loop_ctl_get_free(control.as_raw_fd()) }
        .map_err(|e| Error::sys("get a loop device from", "/dev/loop-control", e))?;
    let path = PathBuf::from(format!("/dev/loop{index}"));
    let device = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
    let mut file_name = [0u8; 64];
    for (to, from) in file_name.iter_mut().take(63).zip(file.as_os_str().as_encoded_bytes()) {
        *to = *from;
    }
    let config = LoopConfig {
        fd: backing.as_raw_fd() as u32,
        block_size: BLOCK_SIZE,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: `config` is a valid `struct loop_config` that lives across the call; the kernel only reads it.
    unsafe { loop_configure(device.as_raw_fd(), &config) }
        .map_err(|e| Error::sys("attach to a loop device", file, e))?;
    Ok(LoopDevice { path, _open: device })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_size() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
