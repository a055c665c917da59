//! How much room is in volumes that are not on the node's own disk.

use futures_util::future::join_all;

use super::node::FileSystem;
use crate::csi::client::volume_stats;
use crate::csi::messages::{NodeGetVolumeStatsResponse, Unit};
use crate::volumes::{MeasuredBy, VolumeAt};

/// Bytes and inodes, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) capacity: Option<u64>,
    pub(super) available: Option<u64>,
    pub(super) used: Option<u64>,
    pub(super) inodes: Option<u64>,
    pub(super) inodes_free: Option<u64>,
    pub(super) inodes_used: Option<u64>,
    /// Whether its driver says that something is wrong with it.
    pub(super) abnormal: Option<bool>,
}

impl From<FileSystem> for Room {
    fn from(disk: FileSystem) -> Self {
        Self {
            capacity: Some(disk.capacity),
            available: Some(disk.available),
            used: Some(disk.capacity.saturating_sub(disk.available)),
            inodes: Some(disk.inodes),
            inodes_free: Some(disk.inodes_free),
            inodes_used: Some(disk.inodes.saturating_sub(disk.inodes_free)),
            abnormal: None,
        }
    }
}

impl From<NodeGetVolumeStatsResponse> for Room {
    fn from(answer: NodeGetVolumeStatsResponse) -> Self {
        let mut room =
            Self { abnormal: answer.volume_condition.map(|condition| condition.abnormal), ..Self::default() };
        for usage in answer.usage {
            // Less than nothing is not known.
            let [all, free, used] = [usage.total, usage.available, usage.used].map(|count| u64::try_from(count).ok());
            match Unit::try_from(usage.unit) {
                Ok(Unit::Bytes) => (room.capacity, room.available, room.used) = (all, free, used),
                Ok(Unit::Inodes) => (room.inodes, room.inodes_free, room.inodes_used) = (all, free, used),
                _ => {}
            }
        }
        room
    }
}

/// Volumes, and how much room each has.
pub(super) type Rooms = Vec<(VolumeAt, Room)>;

/// Asks for all at the same time; those that cannot be measured are left out.
pub(super) async fn measure(volumes: &[VolumeAt]) -> Rooms {
    let all = volumes.iter().map(|volume| async move { Some((volume.clone(), room(&volume.by).await?)) });
    join_all(all).await.into_iter().flatten().collect()
}

async fn room(by: &MeasuredBy) -> Option<Room> {
    match by {
        MeasuredBy::Kernel(path) => {
            let path = path.clone();
            // A file system of another machine may not answer for a while.
            tokio::task::spawn_blocking(move || FileSystem::of(&path)).await.ok()?.map(Room::from)
        }
        MeasuredBy::Driver { socket, handle, path } => match volume_stats(socket, handle, path).await {
            Ok(answer) => answer.map(Room::from),
            Err(error) => {
                tracing::debug!(volume = handle, %error, "a driver does not measure a volume");
                None
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::messages::{Capability, VolumeCondition, VolumeUsage};
    use crate::csi::testing::FakeDriver;

    #[test]
    fn what_a_driver_does_not_know_is_left_out() {
        let usage = |total, available, used, unit| VolumeUsage { available, total, used, unit };
        let answer = NodeGetVolumeStatsResponse {
            usage: vec![usage(100, 60, 40, 1), usage(10, -1, 4, 2), usage(7, 7, 7, 0)],
            volume_condition: Some(VolumeCondition { abnormal: true, message: "worn out".to_owned() }),
        };
        let expected = Room {
            capacity: Some(100),
            available: Some(60),
            used: Some(40),
            inodes: Some(10),
            inodes_free: None,
            inodes_used: Some(4),
            abnormal: Some(true),
        };
        assert_eq!(Room::from(answer), expected);
    }

    #[tokio::test]
    async fn a_driver_is_asked_if_it_can_and_the_kernel_of_folders() {
        let root = tempfile::tempdir().expect("a folder");
        let able = &[Capability::GetVolumeStats, Capability::VolumeCondition];
        let drivers = [("able", &able[..]), ("stats", &able[..1]), ("unable", &[])];
        let drivers = drivers.map(|(name, can)| FakeDriver::start(&root.path().join(name), root.path(), can));
        let mut volumes: Vec<VolumeAt> = vec![];
        for driver in &drivers {
            let by = MeasuredBy::Driver { socket: driver.socket.clone(), handle: "h".into(), path: root.path().into() };
            volumes.push(VolumeAt { uid: "u".into(), name: "v".into(), claim: None, by });
        }
        volumes.push(VolumeAt { by: MeasuredBy::Kernel(root.path().into()), ..volumes[0].clone() });
        let found = measure(&volumes).await;
        let [able, stats, folder] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((able.1.capacity, able.1.used, able.1.abnormal), (Some(1 << 30), Some(1 << 20), Some(false)));
        assert_eq!((stats.1.inodes_free, stats.1.abnormal), (Some(999), None));
        assert_eq!(folder.0, volumes[3]);
        assert!(folder.1.capacity > folder.1.available);
    }
}
