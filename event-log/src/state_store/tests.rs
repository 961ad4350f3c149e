use std::time::SystemTime;

use super::*;

/// A folder, its lock as old as said; without an age there is none.
fn folder(dir: &Path, name: &str, age: Option<Duration>) -> (PathBuf, Option<File>) {
    let path = dir.join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("rows"), "rows").unwrap();
    let lock = age.map(|age| {
        let lock = File::create(path.join(LOCK)).unwrap();
        lock.set_modified(SystemTime::now() - age).unwrap();
        lock
    });
    (path, lock)
}

#[test]
fn what_killed_processes_left_behind_is_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_hours(1);
    let (left, _) = folder(dir.path(), "annals-state-left", Some(hour));
    let (used, lock) = folder(dir.path(), "annals-state-used", Some(hour));
    lock.as_ref().unwrap().lock().unwrap();
    let (new, _) = folder(dir.path(), "annals-state-new", Some(Duration::ZERO));
    let (empty, _) = folder(dir.path(), "annals-state-empty", None);
    let (other, _) = folder(dir.path(), "another", Some(hour));

    // What nobody opens for writing, in a folder of a stranger's.
    let (pipe, _) = folder(dir.path(), "annals-state-pipe", None);
    nix::unistd::mkfifo(&pipe.join(LOCK), nix::sys::stat::Mode::S_IRUSR).unwrap();

    remove_left_behind(dir.path());
    assert!(!left.exists());
    for kept in [used, new, empty, other, pipe] {
        assert!(kept.join("rows").exists(), "{}", kept.display());
    }
}

#[test]
fn a_folder_of_this_run_alone_is_what_is_looked_for() {
    let stores = StateStores::open(None).unwrap();
    let name = stores.0.folder.file_name().unwrap().to_string_lossy();
    assert!(name.starts_with(OWN_FOLDER));
    let lock = File::open(stores.0.folder.join(LOCK)).unwrap();
    assert!(matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)));
}
