//! Bounded reading of files that the configuration names.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

/// Far longer than secrets, certificates and credentials.
const LONGEST: u64 = 1 << 20;

/// Reads a regular file of at most 1 MiB. Reading a pipe would block, and a device may have no end.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if fs::File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)? as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {LONGEST} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_length_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, "x").unwrap();
        assert_eq!(read(&file).unwrap(), b"x");
        fs::File::create(&file).unwrap().set_len(LONGEST + 1).unwrap();
        assert_eq!(read(&file).unwrap_err().to_string(), "it has more than 1048576 bytes");
        for other in [directory.path(), Path::new("/dev/zero")] {
            assert_eq!(read(other).unwrap_err().to_string(), "it is not a regular file");
        }
    }
}
