//! Unpacking: a tar straight into place.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use glob::{MatchOptions, Pattern};

use crate::error::{Error, Kind, Result};
use crate::layout::tar::{self, Header, TarReader};
use crate::progress::Progress;

/// The bytes that are written to a file at a time.
const WRITE: usize = 256 << 10;
/// The most links of a backup that are made: they are held until the end.
const MOST_LINKS: usize = 10_000;
/// The file that is unpacked last.
const CONTROL: &str = "global/pg_control";

/// Where a backup is unpacked to. Shared by the threads that do it.
#[derive(Debug)]
pub(super) struct Target {
    root: PathBuf,
    /// The data directory and each tablespace.
    roots: Vec<PathBuf>,
    mask: Option<Pattern>,
    /// Tablespaces are elsewhere than the backup says.
    moved: bool,
    control: AtomicBool,
    /// Its tars have an end mark: all but those of streamed backups.
    terminated: bool,
    links: Mutex<Vec<(PathBuf, PathBuf)>>,
    payload: AtomicU64,
}

/// A pattern of `--mask`: `*` and `?` do not match a slash, as in Go.
pub(super) fn mask(text: &str) -> Result<Pattern> {
    Pattern::new(text.trim_start_matches('/')).map_err(|error| {
        Error::new(Kind::Invalid, format!("--mask {text:?} is not a pattern")).with_source(error)
    })
}

impl Target {
    pub(super) fn new(
        root: PathBuf,
        roots: Vec<PathBuf>,
        mask: Option<Pattern>,
        moved: bool,
        terminated: bool,
    ) -> Self {
        Self {
            root,
            roots,
            mask,
            moved,
            terminated,
            control: AtomicBool::new(false),
            links: Mutex::default(),
            payload: AtomicU64::new(0),
        }
    }

    /// From now on the control file is unpacked, too.
    pub(super) fn expect_control(&self) {
        self.control.store(true, Ordering::Relaxed);
    }

    /// The bytes of all files unpacked so far.
    pub(super) fn payload(&self) -> u64 {
        self.payload.load(Ordering::Relaxed)
    }

    /// The path of an entry below the data directory; an entry that would leave
    /// it is refused.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        let relative = Path::new(name.trim_start_matches('/'));
        if relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Ok(self.root.join(relative));
        }
        Err(Error::new(
            Kind::Corrupt,
            format!("the entry {name:?} leads out of the data directory"),
        ))
    }

    /// Whether an entry belongs to what is restored.
    pub(super) fn wants(&self, name: &str) -> bool {
        let name = name.trim_start_matches('/');
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        match name {
            "tablespace_map" if self.moved => false,
            CONTROL | "backup_label" | "tablespace_map" => true,
            _ => self.mask.as_ref().is_none_or(|mask| mask.matches_with(name, options)),
        }
    }

    /// Makes the links of the backup, after the files: nothing is written
    /// through one of them.
    pub(super) fn make_links(&self) -> Result<()> {
        for (path, target) in self.links.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            symlink(&target, &path).map_err(|error| cannot("create", &path, error))?;
        }
        // PostgreSQL needs it, and a backup whose WAL directory was a link has none.
        let wal = self.root.join("pg_wal");
        if self.mask.is_none()
            && fs::symlink_metadata(&wal).is_err()
            && !self.root.join("pg_xlog").exists()
        {
            fs::create_dir(&wal)
                .and_then(|()| fs::set_permissions(&wal, Permissions::from_mode(0o700)))
                .map_err(|error| cannot("create", &wal, error))?;
        }
        Ok(())
    }

    /// Makes everything durable: one pass over each file system instead of one
    /// sync for each file.
    pub(super) fn sync(&self) -> Result<()> {
        for root in &self.roots {
            let folder = File::open(root).map_err(|error| cannot("open", root, error))?;
            rustix::fs::syncfs(&folder).map_err(|error| cannot("sync", root, error.into()))?;
        }
        Ok(())
    }

    /// Takes the control file away again: its tar did not come to its end, and
    /// with that file a server would start.
    pub(super) fn remove_control(&self) {
        let _ = fs::remove_file(self.root.join(CONTROL));
    }

    /// Makes the control file durable.
    pub(super) fn sync_control(&self) -> Result<()> {
        for path in [self.root.join(CONTROL), self.root.join("global")] {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(|error| cannot("sync", &path, error))?;
        }
        Ok(())
    }
}

/// Unpacks one tar into `target`.
pub(super) fn unpack(from: &mut dyn Read, target: &Target, progress: &Progress) -> Result<()> {
    let mut tar = TarReader::new(from);
    let mut buffer = vec![0; WRITE];
    while let Some(header) = tar.next()? {
        let name = header.name_text();
        let is_control = name.trim_start_matches('/') == CONTROL;
        let wanted = target.wants(&name) && (!is_control || target.control.load(Ordering::Relaxed));
        if wanted {
            place(&mut tar, &header, target, &mut buffer)?;
        }
        // What is not wanted is read all the same: the end of the tar must be seen.
        target.payload.fetch_add(header.payload(), Ordering::Relaxed);
        progress.add_done(header.payload());
    }
    if target.terminated && !tar.is_terminated() {
        return Err(Error::new(Kind::Corrupt, "the tar has no end mark: it was cut")
            .with_hint("The backup is damaged; restore another one."));
    }
    Ok(())
}

fn place<R: Read>(
    tar: &mut TarReader<R>,
    header: &Header,
    target: &Target,
    buffer: &mut [u8],
) -> Result<()> {
    let path = target.path(&header.name_text())?;
    match &header.kind {
        tar::Kind::File => write_file(tar, header, &path, buffer),
        tar::Kind::Directory => make_directory(&path, header.mode),
        tar::Kind::Symlink { target: to } => note_link(target, &path, header, to),
        other => Err(Error::new(
            Kind::Unsupported,
            format!(
                "the entry {:?} is of a kind that backups do not have: {other:?}",
                header.name_text()
            ),
        )),
    }
}

fn write_file<R: Read>(
    tar: &mut TarReader<R>,
    header: &Header,
    path: &Path,
    buffer: &mut [u8],
) -> Result<()> {
    let mut file = create(path, header.mode)?;
    let mut left = header.size;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        tar.read_exact(&mut buffer[..want])?;
        file.write_all(&buffer[..want]).map_err(|error| cannot("write", path, error))?;
        left -= want as u64;
    }
    Ok(())
}

fn create(path: &Path, mode: u32) -> Result<File> {
    let open =
        || OpenOptions::new().write(true).create(true).truncate(true).mode(mode & 0o777).open(path);
    let file = match open() {
        // Its directory may be in a part that is not unpacked yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                make_parents(folder)?;
            }
            open()
        }
        other => other,
    }
    .map_err(|error| cannot("create", path, error))?;
    // The mask of the process may have taken bits of group and others away.
    if mode != 0o600 {
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(|error| cannot("set the mode of", path, error))?;
    }
    Ok(file)
}

fn make_parents(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| cannot("create", folder, error))
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    make_parents(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| cannot("set the mode of", path, error))
}

/// WAL-G records the base name of a link instead of its target, so a link that
/// points to its own name is one whose target is lost.
fn note_link(target: &Target, path: &Path, header: &Header, to: &[u8]) -> Result<()> {
    let to = OsStr::from_bytes(to);
    let own = path.file_name().is_some_and(|name| name == to);
    if own || to.is_empty() {
        log::warn!(
            "{} was a symbolic link; the backup does not say where to, so it is left out",
            header.name_text()
        );
        return Ok(());
    }
    let mut links = target.links.lock().unwrap_or_else(PoisonError::into_inner);
    if links.len() == MOST_LINKS {
        return Err(Error::new(
            Kind::Unsupported,
            format!("the backup holds more than {MOST_LINKS} symbolic links"),
        ));
    }
    links.push((path.to_owned(), PathBuf::from(to)));
    Ok(())
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot {what} {}", path.display()), error)
}
