//! Files that are written whole or not at all.

use std::fs;

use slth::output::{OutputDirectory, OutputError, write_atomically};

#[test]
fn existing_results_are_kept_unless_forced() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("a/b");
    assert!(OutputDirectory::prepare(&inner, &["result"], false).is_ok());
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 0); // the trial file is gone
    fs::write(inner.join("result"), "old").unwrap();
    assert!(matches!(OutputDirectory::prepare(&inner, &["result"], false), Err(OutputError::Exists { .. })));
    let forced = OutputDirectory::prepare(&inner, &["result"], true).unwrap();
    assert_eq!(fs::read_to_string(inner.join("result")).unwrap(), "old");
    assert!(matches!(OutputDirectory::prepare(&inner, &["result"], true), Err(OutputError::Locked { .. })));
    drop(forced);
    assert!(OutputDirectory::prepare(&inner, &["result"], true).is_ok());
}

#[test]
fn writing_replaces_whole_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x");
    write_atomically(&file, b"one").unwrap();
    write_atomically(&file, b"two").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"two");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(write_atomically(&directory.path().join("none/x"), b"").is_err());
}
