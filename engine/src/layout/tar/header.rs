//! One entry's header, and the fields of its block.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::BLOCK;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it points to.
        target: Vec<u8>,
    },
    /// Another name of an earlier entry.
    Hardlink {
        /// The name of that entry.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// Something else, by its type flag. Can be read, not written.
    Other(u8),
}

impl Kind {
    /// The type flag.
    pub(super) const fn flag(&self) -> u8 {
        match self {
            Self::File => b'0',
            Self::Hardlink { .. } => b'1',
            Self::Symlink { .. } => b'2',
            Self::CharDevice { .. } => b'3',
            Self::BlockDevice { .. } => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
            Self::Other(flag) => *flag,
        }
    }

    /// Whether an entry of this kind is a header without a payload, whatever
    /// size the header tells.
    pub(super) const fn is_header_only(&self) -> bool {
        !matches!(self, Self::File | Self::Other(_))
    }
}

/// The header of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name, byte for byte: `/base/5/1259` in local backups, `base/5/1259` in
    /// streamed ones. Directories have no slash at the end.
    pub name: Vec<u8>,
    /// The size of the payload in bytes; 0 for anything but a file.
    pub size: u64,
    /// Permission bits with set-user-id, set-group-id and sticky: 0 to 0o7777.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name, may be empty.
    pub uname: String,
    /// The group's name, may be empty.
    pub gname: String,
    /// The modification time in whole seconds since 1970. WAL-G rounds it to the
    /// nearest second: see [`Header::round_mtime`].
    pub mtime: i64,
    /// What the entry is.
    pub kind: Kind,
}

impl Header {
    /// A header with nothing but name, kind and mode.
    pub fn new(name: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self {
            name: name.into(),
            size: 0,
            mode,
            uid: 0,
            gid: 0,
            uname: String::new(),
            gname: String::new(),
            mtime: 0,
            kind,
        }
    }

    /// A file of `size` bytes.
    pub fn file(name: impl Into<Vec<u8>>, size: u64, mode: u32) -> Self {
        Self { size, ..Self::new(name, Kind::File, mode) }
    }

    /// A directory.
    pub fn directory(name: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self::new(name, Kind::Directory, mode)
    }

    /// The name as a path.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.name))
    }

    /// The name as text, for messages and for look-ups in documents, which hold
    /// UTF-8 only.
    pub fn name_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// Whether the entry is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Whether the entry is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// How many bytes of payload follow the header.
    pub const fn payload(&self) -> u64 {
        if self.kind.is_header_only() { 0 } else { self.size }
    }

    /// A time rounded to the nearest second, half a second up, as WAL-G stores it.
    pub const fn round_mtime(seconds: i64, nanoseconds: u32) -> i64 {
        if nanoseconds >= 500_000_000 { seconds.saturating_add(1) } else { seconds }
    }
}

/// The bytes of a header block, from and to.
pub(super) type Field = std::ops::Range<usize>;
pub(super) const NAME: Field = 0..100;
pub(super) const MODE: Field = 100..108;
pub(super) const UID: Field = 108..116;
pub(super) const GID: Field = 116..124;
pub(super) const SIZE: Field = 124..136;
pub(super) const MTIME: Field = 136..148;
pub(super) const CHECKSUM: Field = 148..156;
pub(super) const FLAG: usize = 156;
pub(super) const LINK: Field = 157..257;
pub(super) const MAGIC: Field = 257..263;
pub(super) const VERSION: Field = 263..265;
pub(super) const UNAME: Field = 265..297;
pub(super) const GNAME: Field = 297..329;
pub(super) const MAJOR: Field = 329..337;
pub(super) const MINOR: Field = 337..345;
pub(super) const PREFIX: Field = 345..500;

/// The sums of the block's bytes as unsigned and as signed numbers, the checksum
/// itself counted as spaces. Old programs wrote the latter.
pub(super) fn checksums(block: &[u8; BLOCK]) -> (i64, i64) {
    let (mut unsigned, mut signed) = (0, 0);
    for (at, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    (unsigned, signed)
}
