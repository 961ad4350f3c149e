//! The engine library: found, loaded, and given its arguments. The only unsafe code of the workspace.
//!
//! The three functions are chDB's C interface as of 26.7 (`chdb.h`):
//!
//! ```c
//! void         chdb_set_signal_handlers_enabled(int);
//! chdb_result* chdb_query_cmdline(int argc, char** argv);   // blocks until the query ends
//! const char*  chdb_result_error(chdb_result*);             // NULL when there is none
//! ```

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;

use anyhow::Context as _;
use libloading::Library;

use crate::folder;

/// Opens the port and then waits for ever, in steps short enough to notice the end within one of them.
/// The engine's local mode lives as long as its query does. (`stop` knows this query by its first words.)
const QUERY: &str = "SYSTEM START LISTEN HTTP; \
    SELECT sum(sleepEachRow(0.2)) FROM system.numbers \
    SETTINGS function_sleep_max_microseconds_per_block=0, max_block_size=1, max_execution_time=0 FORMAT Null";

type SetSignalHandlers = unsafe extern "C" fn(c_int);
type QueryCommandLine = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;
type ResultError = unsafe extern "C" fn(*mut c_void) -> *const c_char;

/// The loaded library with the functions that we call.
pub(crate) struct Engine {
    set_signal_handlers: SetSignalHandlers,
    query_command_line: QueryCommandLine,
    result_error: ResultError,
    /// Never unloaded: it keeps threads and thread-local state, and the function pointers above point into it.
    _library: ManuallyDrop<Library>,
}

impl Engine {
    /// Loads the library; a missing or unsuitable one is an error that says what to do.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(
            path.is_file(),
            "there is no engine library at {}: run `deploy/local/engines install`, or set ANNALS_CLICKHOUSE_LIBRARY",
            path.display()
        );
        #[expect(unsafe_code, reason = "a C library can be had in no other way")]
        // SAFETY: loading runs the library's initialisers. The path is the operator's own choice, by default
        // the file that npm checked against the lock file's hash; nothing else runs in this process yet, so
        // the initialisers race with nobody.
        let library =
            unsafe { Library::new(path) }.with_context(|| format!("{} cannot be loaded", path.display()))?;
        let unsuitable = || {
            format!(
                "{} is not the engine library that this launcher knows",
                path.display()
            )
        };
        #[expect(
            unsafe_code,
            reason = "the compiler cannot know the types of a C library's functions"
        )]
        // SAFETY: each type is the declaration in chdb.h of the pinned version, quoted above. The pointers are
        // copied out of their borrow of `library`, which is sound because it is never unloaded.
        let (set_signal_handlers, query_command_line, result_error) = unsafe {
            (
                *library
                    .get::<SetSignalHandlers>(b"chdb_set_signal_handlers_enabled\0")
                    .with_context(unsuitable)?,
                *library
                    .get::<QueryCommandLine>(b"chdb_query_cmdline\0")
                    .with_context(unsuitable)?,
                *library
                    .get::<ResultError>(b"chdb_result_error\0")
                    .with_context(unsuitable)?,
            )
        };
        Ok(Self {
            set_signal_handlers,
            query_command_line,
            result_error,
            _library: ManuallyDrop::new(library),
        })
    }

    /// Serves until the query is ended; blocks. The error is the engine's own text: a start that failed, or
    /// the query that was killed to stop it.
    pub(crate) fn serve(&self, rows: &Path, http_port: u16, config: &Path) -> anyhow::Result<()> {
        let arguments = [
            "clickhouse".to_owned(),
            format!("--path={}", rows.display()),
            format!("--config-file={}", config.display()),
            "--listen_host=127.0.0.1".to_owned(),
            format!("--http_port={http_port}"),
            // It opens the native port as well, asked or not: 9000, unless told another one.
            format!("--tcp_port={}", folder::free_port()?),
            "--multiquery".to_owned(),
            format!("--query={QUERY}"),
        ];
        let owned = arguments
            .map(CString::new)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        // The engine may write into its arguments, as any main may: it gets bytes of its own.
        let mut pointers: Vec<*mut c_char> = owned.into_iter().map(CString::into_raw).collect();
        let count = c_int::try_from(pointers.len())?;
        pointers.push(std::ptr::null_mut());

        #[expect(unsafe_code, reason = "these are C functions")]
        // SAFETY: `pointers` holds `count` NUL-terminated strings and a final null, as main expects, and is
        // alive and otherwise untouched for the whole call; the strings are given away for good (into_raw),
        // so the engine may keep or change them. Signal handlers are set before the engine has any thread.
        // The call is made once in the life of the process. `result_error` accepts what the call returned,
        // also NULL; its text, when there is one, belongs to the result, which is never freed.
        let error = unsafe {
            (self.set_signal_handlers)(0);
            let result = (self.query_command_line)(count, pointers.as_mut_ptr());
            let text = if result.is_null() {
                std::ptr::null()
            } else {
                (self.result_error)(result)
            };
            if text.is_null() {
                None
            } else {
                Some(CStr::from_ptr(text).to_string_lossy().into_owned())
            }
        };
        error.map_or(Ok(()), |text| Err(anyhow::anyhow!(text)))
    }
}
