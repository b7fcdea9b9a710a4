//! What an entry of an archive is, and its path: the one that Helm will see, or none.

use std::{
    io::Read,
    path::{Component, Path},
};

use tar::{Entry, EntryType, Header};

use super::ArchiveError;

/// The path of an entry, and whether it is a file. Refuses what is neither file nor folder, a path that leaves the
/// archive, and whatever Helm, which cleans paths and reads headers by other rules, might give another name.
pub(super) fn checked_path(entry: &mut Entry<'_, impl Read>) -> Result<(String, bool), ArchiveError> {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let kind = entry.header().entry_type();
    refuse_kind(kind, &path)?;
    refuse_path(&path)?;
    let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous);
    let disputed = |found| ArchiveError::Disputed {
        path: path.clone(),
        found,
    };
    if kind == EntryType::Directory {
        // Go's reader takes what follows a folder for the next entries, whatever size that says it has.
        let said = entry.header().entry_size().map_err(ArchiveError::Unreadable)?;
        if said != 0 || entry.size() != 0 || has_doubtful_extensions(entry)? {
            return Err(disputed("is a folder that has a size"));
        }
    }
    if is_file {
        if !is_clean(&path) {
            return Err(disputed("has an empty or '.' part"));
        }
        if has_doubtful_prefix(entry.header()) {
            return Err(disputed("has a header of an unusual format"));
        }
        if has_doubtful_extensions(entry)? {
            return Err(disputed("has extended headers that change its name or size"));
        }
    }
    Ok((path, is_file))
}

fn refuse_kind(kind: EntryType, path: &str) -> Result<(), ArchiveError> {
    let kind = match kind {
        EntryType::Regular
        | EntryType::Continuous
        | EntryType::Directory
        | EntryType::XGlobalHeader
        | EntryType::XHeader
        | EntryType::GNULongName => return Ok(()),
        EntryType::Symlink | EntryType::GNULongLink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        _ => "special file",
    };
    Err(ArchiveError::Link {
        path: path.to_owned(),
        kind,
    })
}

fn refuse_path(path: &str) -> Result<(), ArchiveError> {
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if plain && !path.is_empty() && !path.contains(['\\', '\0']) && path.as_bytes().get(1) != Some(&b':') {
        Ok(())
    } else {
        Err(ArchiveError::Escapes {
            path: path.to_owned(),
        })
    }
}

/// Whether cleaning the path changes nothing of it. Helm cuts off the first part before, so that this may be the `.`
/// of an archive packed from inside the folder.
fn is_clean(path: &str) -> bool {
    let inner = path
        .split_once('/')
        .map_or(path, |(top, inner)| if top.is_empty() { path } else { inner });
    inner.split('/').all(|part| !matches!(part, "" | "."))
}

/// Whether Go's reader may put a prefix before the name where the one used here puts none, or another.
fn has_doubtful_prefix(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let ustar = bytes.get(257..265) == Some(b"ustar\x0000") && bytes.get(508..512) != Some(b"tar\0");
    let without = bytes
        .get(345..500)
        .is_some_and(|prefix| prefix.iter().all(|byte| *byte == 0));
    !ustar && !without
}

/// Whether the extended headers say the path more than once (the readers take different ones), or a size, or that the
/// file is sparse, whose real name they then say too.
fn has_doubtful_extensions(entry: &mut Entry<'_, impl Read>) -> Result<bool, ArchiveError> {
    let mut paths = 0;
    for extension in entry
        .pax_extensions()
        .map_err(ArchiveError::Unreadable)?
        .into_iter()
        .flatten()
    {
        let extension = extension.map_err(ArchiveError::Unreadable)?;
        let key = extension.key_bytes();
        paths += usize::from(key == b"path");
        if paths > 1 || key == b"size" || key.starts_with(b"GNU.sparse.") {
            return Ok(true);
        }
    }
    Ok(false)
}
