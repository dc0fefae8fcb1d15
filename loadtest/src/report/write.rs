//! Writing a report's file so that it is there whole or not at all: a reader never sees half of one, and a failure
//! leaves what was there before.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Fails now where [`whole_file`] could not write later, which after hours would be a pity.
pub fn possible(path: &Path) -> io::Result<()> {
    let path = real(path)?;
    if special(&path) {
        return Ok(());
    }
    let beside = beside(&path)?;
    let opened = File::create(&beside);
    let _ = fs::remove_file(&beside);
    opened.map(drop)
}

/// Writes beside the file and then gives it the file's name; devices and pipes are written to directly.
pub fn whole_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = real(path)?;
    if special(&path) {
        return fs::OpenOptions::new().write(true).open(&path)?.write_all(content);
    }
    let beside = beside(&path)?;
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Where a link leads, so that the file is replaced and not the link.
fn real(path: &Path) -> io::Result<PathBuf> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    Ok(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
}

fn special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file())
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
    let mut name = name.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::Folder;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = Folder::new("write");
        let path = folder.file("r.json");
        possible(&path).unwrap();
        whole_file(&path, b"first, longer").unwrap();
        whole_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let link = folder.file("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        whole_file(&link, b"third").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_written_is_told_and_a_device_is_not_replaced() {
        let folder = Folder::new("write-errors");
        assert!(possible(&folder.file("no/such/r.json")).is_err());
        assert!(whole_file(&folder.file("no/such/r.json"), b"x").is_err());
        assert!(possible(folder.path()).is_err());
        possible(Path::new("/dev/null")).unwrap();
        whole_file(Path::new("/dev/null"), b"x").unwrap();
        assert!(special(Path::new("/dev/null")));
    }
}
