//! The filesystem of the data directory: SQLite needs reliable locks and syncs.

use std::path::{Path, PathBuf};

/// Filesystems over a network, and those that share a host's directory with a virtual machine or a container. Their locks or
/// syncs are not reliable: <https://www.sqlite.org/howtocorrupt.html>, 2.1 and 3.
const SHARED: [&str; 16] = [
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fakeowner",
    "fuse.glusterfs",
    "fuse.grpcfuse",
    "fuse.osxfs",
    "fuse.sshfs",
    "nfs",
    "nfs4",
    "prl_fs",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
];

/// The kind of filesystem, if SQLite cannot rely on it. `None` also if it is unknown.
pub(super) fn shared(directory: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let existing = directory.ancestors().find_map(|path| path.canonicalize().ok())?;
    kind(&mounts, &existing).filter(|kind| SHARED.contains(kind)).map(str::to_owned)
}

/// The kind of a path's filesystem, by Linux' mountinfo: the deepest mount, and of several at one point the last.
fn kind<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let point = unescaped(mount.split(' ').nth(4)?);
        path.starts_with(&point).then_some((point.components().count(), filesystem.split(' ').next()?))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// Decodes a path in mountinfo: space, tab, line break and backslash are a backslash and three octal digits.
fn unescaped(path: &str) -> PathBuf {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_at_checked(3).map(|(digits, rest)| (u8::from_str_radix(digits, 8), rest)) {
            Some((Ok(byte), rest)) => {
                text.push(char::from(byte));
                text.push_str(rest);
            }
            _ => text.push_str(part),
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = r"
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /srv rw - nfs4 server:/export rw
31 30 8:2 / /srv/local rw - xfs /dev/sdb1 rw
32 21 0:41 / /mnt/with\040space rw master:2 - virtiofs host rw
33 21 0:42 / /data rw - tmpfs tmpfs rw
34 21 0:43 / /data rw - 9p host rw";

    #[test]
    fn a_path_is_on_its_deepest_mount_and_on_the_last_of_several() {
        for (path, expected) in [
            ("/var/lib/talaria", "ext4"),
            ("/srv/talaria", "nfs4"),
            ("/srvother", "ext4"),
            ("/srv/local/talaria", "xfs"),
            ("/mnt/with space", "virtiofs"),
            ("/data", "9p"),
        ] {
            assert_eq!(kind(MOUNTS, Path::new(path)), Some(expected), "{path}");
        }
        assert_eq!(kind("", Path::new("/data")), None);
    }

    #[test]
    fn a_directory_that_is_still_to_be_created_is_where_the_one_above_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let above = shared(directory.path());
        assert_eq!(shared(&directory.path().join("a/b")), above);
    }
}
