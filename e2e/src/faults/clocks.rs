//! Wall clocks that jump, each as one process sees it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use crate::installation::{Installation, Role};

/// The clocks of processes, right until they jump.
pub struct Clocks(tempfile::TempDir);

impl Clocks {
    /// Gives each of these roles, when it is started, a clock of its own.
    ///
    /// # Errors
    /// There is no C compiler, which `./dev` asks for, or no room for a file.
    pub async fn new(annals: &mut Installation, roles: &[Role]) -> anyhow::Result<Self> {
        let clocks = Self(tempfile::tempdir()?);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/faults/clock.c");
        let library = clocks.0.path().join("clock.so");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .output()
            .await?;
        let complaint = String::from_utf8_lossy(&made.stderr);
        anyhow::ensure!(made.status.success(), "cc {}: {complaint}", source.display());
        for role in roles {
            std::fs::write(clocks.file(*role), 0_i64.to_ne_bytes())?;
            annals.set_for(*role, "LD_PRELOAD", &library.to_string_lossy());
            annals.set_for(*role, "FAULTS_CLOCK", &clocks.file(*role).to_string_lossy());
        }
        Ok(clocks)
    }

    /// Puts a clock so many seconds before or behind the right one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn jump(&self, role: Role, seconds: i64) -> anyhow::Result<()> {
        // In its place: the process looks at this very file.
        let mut file = std::fs::File::options().write(true).open(self.file(role))?;
        Ok(file.write_all(&seconds.to_ne_bytes())?)
    }

    fn file(&self, role: Role) -> PathBuf {
        self.0.path().join(format!("{role:?}"))
    }
}
