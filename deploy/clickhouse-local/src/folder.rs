//! The folder that one launcher holds, and the port that it wants: both are tried before the engine starts,
//! because the engine reports neither in words that help and calls a failed start a success.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A folder held by this process for as long as the value lives.
pub(crate) struct Folder {
    path: PathBuf,
    /// The kernel gives the lock up when the process ends, however it ends: a stale file is no obstacle.
    _lock: File,
}

impl Folder {
    /// Makes the folder when it is missing and locks it; says who holds it when somebody does.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        let path = path.canonicalize()?;
        let lock_path = path.join("launcher.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .with_context(|| format!("cannot write to {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                lock.read_to_string(&mut owner)?;
                anyhow::bail!(
                    "the folder {} is in use by process {}: stop that one first, or choose another --data",
                    path.display(),
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path, _lock: lock })
    }

    /// Where the engine keeps its rows.
    pub(crate) fn rows(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where the configuration is written.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.path.join("config.xml")
    }
}

/// Fails when somebody listens on the port already.
pub(crate) fn check_port(port: u16) -> anyhow::Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            anyhow::bail!("port {port} on 127.0.0.1 is taken by another process: choose another --http-port")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on 127.0.0.1:{port}")),
    }
}

/// A port that nobody listens on at this moment, and that the kernel gives to nobody: below the range of outgoing
/// connections, so that it is still free when the engine comes to it.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let random = RandomState::new().build_hasher().finish();
        let port = u16::try_from(10_000 + random % 10_000)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("found no free port between 10000 and 20000 on 127.0.0.1")
}
