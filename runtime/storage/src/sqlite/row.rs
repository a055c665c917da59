//! A row of the log: one write, with the checksum that it was written with.

use std::sync::Arc;

use bytes::Bytes;

use crate::types::{Record, Revision};

/// One row of the log.
pub(super) struct Row {
    pub(super) revision: Revision,
    pub(super) key: Arc<str>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) create_revision: Revision,
    pub(super) checksum: u32,
}

impl Row {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            revision: row.get(0)?,
            key: row.get(1)?,
            value: row.get(2)?,
            create_revision: row.get(3)?,
            checksum: row.get(4)?,
        })
    }

    /// Whether it is the row of a delete.
    pub(super) fn is_delete(&self) -> bool {
        self.value.is_none()
    }

    pub(super) fn into_record(self) -> Record {
        Record {
            key: self.key,
            value: Bytes::from(self.value.unwrap_or_default()),
            create_revision: self.create_revision,
            mod_revision: self.revision,
        }
    }
}

/// The checksum of a row; a delete has no value.
pub(super) fn checksum(key: &str, create_revision: Revision, value: Option<&[u8]>) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key.as_bytes());
    sum.update(&[0, u8::from(value.is_some())]);
    sum.update(&create_revision.to_le_bytes());
    sum.update(value.unwrap_or_default());
    sum.finalize()
}
