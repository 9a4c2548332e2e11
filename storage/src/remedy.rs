//! What an error about damage tells its reader to type: whole commands, with the directory's own path, so that they can be
//! copied as they stand. Only commands that can help are named.

use std::path::Path;

/// Of no use for what was lost since the backup, but always possible.
pub(crate) const RESTORE: &str =
    "restore a backup with `escrow store restore <backup> --data-dir <empty directory>`";

/// Mends `root` in place; `purpose` says at what price.
pub(crate) fn repair(root: &Path, purpose: &str) -> String {
    format!("{purpose} with `escrow store repair --data-dir {}`", root.display())
}

/// Saves what can be read of `root`.
pub(crate) fn salvage(root: &Path) -> String {
    format!(
        "save what is readable with `escrow store repair --data-dir {} --salvage-into <empty directory>`",
        root.display()
    )
}

/// For a small file that can be written again from the others.
pub(crate) fn write_again(root: &Path) -> String {
    let verify =
        format!("`escrow store verify --data-dir {}` tells whether the rest is whole", root.display());
    format!("{verify}; {}", repair(root, "write it again"))
}

/// The data directory in which a file lies that is so many levels below it.
pub(crate) fn root_above(file: &Path, levels: usize) -> &Path {
    file.ancestors().nth(levels).unwrap_or(file)
}
