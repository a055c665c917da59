//! Device mapper by ioctl on `/dev/mapper/control`: create a device, load one target, resume it.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::error::{Error, Result};

const CONTROL: &str = "/dev/mapper/control";
const READ_ONLY: u32 = 1;
const PARAMS: usize = 1024;

/// `struct dm_ioctl` of linux/dm-ioctl.h.
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`, followed by its parameters.
#[repr(C)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
    params: [u8; PARAMS],
}

#[repr(C)]
struct Request {
    header: Header,
    target: Target,
}

nix::ioctl_readwrite!(dm_dev_create, 0xfd, 3, Header);
nix::ioctl_readwrite!(dm_dev_remove, 0xfd, 4, Header);
nix::ioctl_readwrite!(dm_dev_suspend, 0xfd, 6, Header);
nix::ioctl_readwrite!(dm_table_load, 0xfd, 9, Header);

impl Request {
    fn new(name: &str) -> Self {
        let mut request = Self {
            header: Header {
                version: [4, 0, 0],
                data_size: size_of::<Self>() as u32,
                data_start: size_of::<Header>() as u32,
                target_count: 0,
                open_count: 0,
                flags: 0,
                event_nr: 0,
                padding: 0,
                dev: 0,
                name: [0; 128],
                uuid: [0; 129],
                data: [0; 7],
            },
            target: Target { sector_start: 0, length: 0, status: 0, next: 0, kind: [0; 16], params: [0; PARAMS] },
        };
        copy(&mut request.header.name, name);
        request
    }
}

/// Copies text into a zero-terminated field, cut to fit.
fn copy(field: &mut [u8], text: &str) {
    let room = field.len() - 1;
    for (to, from) in field.iter_mut().take(room).zip(text.as_bytes()) {
        *to = *from;
    }
}

/// Makes a read-only mapped device of one target over `sectors` (512 bytes each) and returns its node, `/dev/dm-N`.
/// On failure nothing is left behind.
pub(crate) fn create_read_only(name: &str, kind: &str, sectors: u64, params: &str) -> Result<PathBuf> {
    if params.len() >= PARAMS {
        return Err(Error::malformed(format!("{kind} table"), "longer than 1023 bytes"));
    }
    let control = OpenOptions::new().read(true).write(true).open(CONTROL).map_err(|e| Error::io("open", CONTROL, e))?;
    let mut create = Request::new(name);
    create.header.flags = READ_ONLY;
    // SAFETY: the pointer covers the whole request, whose size is in `data_size`; the kernel stays within it.
    unsafe { dm_dev_create(control.as_raw_fd(), (&raw mut create).cast()) }
        .map_err(|e| Error::sys("create the mapped device", name, e))?;
    let minor = minor(create.header.dev);
    match activate(&control, name, kind, sectors, params) {
        Ok(()) => Ok(PathBuf::from(format!("/dev/dm-{minor}"))),
        Err(error) => {
            let mut remove = Request::new(name);
            // SAFETY: as above.
            let _ = unsafe { dm_dev_remove(control.as_raw_fd(), (&raw mut remove).cast()) };
            Err(error)
        }
    }
}

fn activate(control: &File, name: &str, kind: &str, sectors: u64, params: &str) -> Result<()> {
    let mut load = Request::new(name);
    load.header.flags = READ_ONLY;
    load.header.target_count = 1;
    load.target.length = sectors;
    load.target.next = size_of::<Target>() as u32;
    copy(&mut load.target.kind, kind);
    copy(&mut load.target.params, params);
    // SAFETY: as in `create_read_only`.
    unsafe { dm_table_load(control.as_raw_fd(), (&raw mut load).cast()) }
        .map_err(|e| Error::sys("load the table of", format!("{name} ({kind} {params})"), e))?;
    // Without the suspend flag this request resumes, which makes the loaded table the live one.
    let mut resume = Request::new(name);
    // SAFETY: as in `create_read_only`.
    unsafe { dm_dev_suspend(control.as_raw_fd(), (&raw mut resume).cast()) }
        .map_err(|e| Error::sys("activate", name, e))?;
    Ok(())
}

/// Removes a mapped device, so that a retry can make it anew.
pub(crate) fn remove(name: &str) {
    if let Ok(control) = OpenOptions::new().read(true).write(true).open(CONTROL) {
        let mut request = Request::new(name);
        // SAFETY: as in `create_read_only`. A device that does not exist is what the caller wants.
        let _ = unsafe { dm_dev_remove(control.as_raw_fd(), (&raw mut request).cast()) };
    }
}

/// The minor number in the kernel's 64-bit encoding of a device number (`huge_encode_dev`).
fn minor(dev: u64) -> u64 {
    (dev & 0xff) | ((dev >> 12) & 0xfff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_size() {
        assert_eq!(size_of::<Header>(), 312);
        assert_eq!(size_of::<Target>(), 40 + PARAMS);
    }

    #[test]
    fn the_minor_number_is_decoded() {
        assert_eq!(minor(0xfd00), 0);
        assert_eq!(minor(0xfd03), 3);
        assert_eq!(minor(0x0010_fd03), 0x103);
    }
}
