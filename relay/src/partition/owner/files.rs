//! Copies of kept files in a directory of the tenant's, for programs that read files. Each appears whole.

use std::{fs, io, mem, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};
use talaria_bus::{Files, OpenFile};
use talaria_core::media::kept_name;
use talaria_proto::v1::{JobFiles, KeptFile};
use tokio::{
    io::{AsyncWriteExt as _, copy as copy_bytes},
    task::spawn_blocking,
};

/// What the names of copies begin with.
const PREFIX: &str = "talaria-";

/// What the names of unfinished copies begin with.
const UNFINISHED: &str = ".talaria-";

/// An unfinished copy that is older belongs to no process any more.
const LONGEST_COPY: Duration = Duration::from_secs(3_600);

/// The longest id of a job that is part of a name.
const LONGEST_ID: usize = 64;

/// Others may read them, because the reader may be another user. The directory's own permissions decide who gets there.
const MODE: u32 = 0o644;

/// A tenant and a job's id at OpenRouter.
type JobKey<'a> = (&'a str, &'a str);

/// Copies kept files into a directory, which is created if it is missing, and sets their paths. After an error none has one.
pub(super) async fn copy(
    files: &Files,
    directory: &Path,
    job: JobKey<'_>,
    kept: &mut [KeptFile],
) -> Result<(), String> {
    for index in 0..kept.len() {
        let Some(file) = kept.get_mut(index) else { break };
        let path = directory.join(name(job, file));
        match one(files, directory, job, file, &path).await {
            Ok(()) => file.path = path.to_string_lossy().into_owned(),
            Err(why) => {
                for copied in kept.iter_mut().filter(|file| !file.path.is_empty()) {
                    drop(tokio::fs::remove_file(mem::take(&mut copied.path)).await);
                }
                return Err(format!("the file cannot be copied to {}: {why}", path.display()));
            }
        }
    }
    Ok(())
}

async fn one(
    files: &Files,
    directory: &Path,
    job: JobKey<'_>,
    file: &KeptFile,
    path: &Path,
) -> Result<(), String> {
    let found = files.open(&kept_name(job.0, job.1, file.index), 0).await;
    let found = found.map_err(|error| error.to_string())?.ok_or("it is gone")?;
    write(directory, path, found, file.size).await.map_err(|error| error.to_string())
}

async fn write(directory: &Path, path: &Path, mut from: OpenFile, size: u64) -> io::Result<()> {
    let above = directory.to_owned();
    let begin = move || {
        fs::create_dir_all(&above)?;
        remove_unfinished(&above);
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&above)
    };
    let (file, unfinished) = spawn_blocking(begin).await.map_err(io::Error::other)??.into_parts();
    let mut file = tokio::fs::File::from(file);
    let copied = copy_bytes(&mut from.bytes, &mut file).await?;
    if copied != size {
        return Err(io::Error::other(format!("it has {copied} bytes instead of {size}")));
    }
    file.flush().await?;
    // Not when it is created, where the process' umask would count.
    file.set_permissions(fs::Permissions::from_mode(MODE)).await?;
    file.sync_all().await?;
    let (above, target) = (directory.to_owned(), path.to_owned());
    let rename = move || {
        unfinished.persist(target)?;
        fs::File::open(above)?.sync_all()
    };
    spawn_blocking(rename).await.map_err(io::Error::other)?
}

/// Removes what processes left that were killed.
fn remove_unfinished(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
        let age = entry.metadata().and_then(|found| found.modified()).map(|modified| modified.elapsed());
        if is_unfinished && matches!(age, Ok(Ok(age)) if age > LONGEST_COPY) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// A name that is safe in every file system.
fn name(job: JobKey<'_>, file: &KeptFile) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let extension = talaria_core::media::extension(&file.media_type);
    if job.1.len() <= LONGEST_ID && job.1.bytes().all(is_safe) {
        format!("{PREFIX}{}-{}.{extension}", job.1, file.index)
    } else {
        format!("{PREFIX}{}.{extension}", kept_name(job.0, job.1, file.index))
    }
}

/// Removes the files of a job and their copies.
pub(super) async fn remove(files: &Files, job: JobKey<'_>, known: JobFiles) -> Result<(), String> {
    for index in 0..known.count {
        files.remove(&kept_name(job.0, job.1, index)).await.map_err(|error| error.to_string())?;
    }
    for KeptFile { path, .. } in known.kept.into_iter().filter(|file| !file.path.is_empty()) {
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("cannot remove {path}: {error}"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use talaria_bus::Bus;

    async fn kept(bus: &Bus, job: JobKey<'_>) -> (Files, Vec<KeptFile>) {
        let files = bus.files(Duration::from_secs(3_600));
        let mut file = files.create(&kept_name(job.0, job.1, 0)).await.unwrap();
        file.write(Bytes::from_static(b"a video")).await.unwrap();
        file.finish().await.unwrap();
        (files, vec![KeptFile { size: 7, media_type: "video/webm".into(), ..KeptFile::default() }])
    }

    #[tokio::test]
    async fn a_copy_can_be_read_and_goes_with_its_job() {
        let directory = tempfile::tempdir().unwrap();
        let bus = Bus::embedded(&directory.path().join("data")).await.unwrap();
        let copies = directory.path().join("a/b");
        for (id, expected) in [("gen-vid_1", "talaria-gen-vid_1-0.webm"), ("../x", "")] {
            let job = ("acme", id);
            let (files, mut copied) = kept(&bus, job).await;
            copy(&files, &copies, job, &mut copied).await.unwrap();
            let path = Path::new(&copied[0].path);
            assert_eq!(fs::read(path).unwrap(), b"a video");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
            assert!(path.parent() == Some(&copies) && copied[0].path.ends_with(expected), "{path:?}");
            assert_eq!(fs::read_dir(&copies).unwrap().count(), 1, "no unfinished one is left");
            let known = JobFiles { count: 1, kept: copied.clone(), ..JobFiles::default() };
            remove(&files, job, known.clone()).await.unwrap();
            remove(&files, job, known).await.unwrap();
            assert!(!path.exists() && files.open(&kept_name("acme", id, 0), 0).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_copy_that_cannot_be_written_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let bus = Bus::embedded(&directory.path().join("data")).await.unwrap();
        let (files, mut kept) = kept(&bus, ("acme", "j")).await;
        let in_the_way = directory.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let why = copy(&files, &in_the_way, ("acme", "j"), &mut kept).await.unwrap_err();
        assert!(why.contains("cannot be copied to") && why.contains("talaria-j-0.webm"), "{why}");
        // The first of two is not left behind.
        kept.push(KeptFile { size: 8, media_type: "image/png".into(), ..kept[0].clone() });
        let why = copy(&files, directory.path(), ("acme", "j"), &mut kept).await.unwrap_err();
        assert!(kept.iter().all(|file| file.path.is_empty()));
        assert!(!directory.path().join("talaria-j-0.webm").exists());
        assert!(why.contains("7 bytes instead of 8"), "{why}");
    }
}
