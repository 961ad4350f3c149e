//! The launcher itself: what it refuses, in which words, and how it ends.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn library() -> String {
    let name = "ANNALS_TEST_CLICKHOUSE_LIBRARY";
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: tests need real engines, run `./dev test -p clickhouse-local`")
    })
}

/// Below the range that the kernel takes ports from for others, among them the other tests.
fn free_port() -> u16 {
    let random = || 10_000 + (RandomState::new().build_hasher().finish() % 10_000) as u16;
    std::iter::repeat_with(random)
        .take(100)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("there is a free port")
}

fn launcher(library: &str, data: &Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clickhouse-local"));
    command
        .args(["--library", library, "--http-port", &port.to_string(), "--data"])
        .arg(data);
    for name in [
        "ANNALS_CLICKHOUSE_PASSWORD",
        "ANNALS_CLICKHOUSE_READER_PASSWORD",
        "ANNALS_CLICKHOUSE_ANALYST_PASSWORD",
    ] {
        command.env(name, "secret");
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn curl(port: u16, statement: &str) -> Output {
    let url = format!("http://127.0.0.1:{port}/");
    let arguments = [
        "-sS",
        "--user",
        "annals_writer:secret",
        "--data-binary",
        statement,
        &url,
    ];
    Command::new("curl")
        .args(arguments)
        .output()
        .expect("curl can be started")
}

/// A launcher that runs, ended with the test.
struct Running {
    child: Child,
    port: u16,
}

impl Running {
    /// Starts it on a port that is free; on another one, when somebody else was faster to take it.
    fn start(data: &Path) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let port = free_port();
            let child = launcher(&library(), data, port)
                .spawn()
                .expect("the launcher can be started");
            let mut started = Self { child, port };
            let said = loop {
                if curl(port, "SELECT 1").status.success() {
                    return started;
                }
                if started.child.try_wait().expect("it was started").is_some() {
                    break started.said();
                }
                if Instant::now() >= deadline {
                    panic!("the engine did not answer within 30 s: {}", started.said());
                }
            };
            assert!(
                Instant::now() < deadline,
                "the engine did not start within 30 s: {said}"
            );
        }
    }

    /// Ends it; what it wrote.
    fn said(&mut self) -> String {
        let mut said = String::new();
        let _ = self.child.kill();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        said
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill can be started").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended in most tests; then both calls say so, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refusal(mut command: Command) -> String {
    let output = command.output().expect("the launcher can be started");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("an error is text")
}

#[test]
fn a_missing_library_is_refused_with_the_way_to_fetch_it() {
    let folder = tempfile::tempdir().expect("there is room");
    let words = refusal(launcher("/nowhere/libchdb.so", folder.path(), free_port()));
    assert!(
        words.contains("no engine library at /nowhere/libchdb.so"),
        "{words}"
    );
    assert!(words.contains("engines install"), "{words}");
}

#[test]
fn a_library_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("libchdb.so");
    std::fs::write(&path, "not a library").expect("there is room");
    let words = refusal(launcher(&path.to_string_lossy(), folder.path(), free_port()));
    assert!(words.contains("cannot be loaded"), "{words}");
}

#[test]
fn a_port_that_is_taken_is_refused_by_its_number() {
    let folder = tempfile::tempdir().expect("there is room");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    let port = taken.local_addr().expect("it has an address").port();
    let words = refusal(launcher(&library(), folder.path(), port));
    assert!(
        words.contains(&format!("port {port} on 127.0.0.1 is taken")),
        "{words}"
    );
}

#[test]
fn a_missing_password_is_refused_by_the_name_of_its_variable() {
    let folder = tempfile::tempdir().expect("there is room");
    let mut command = launcher(&library(), folder.path(), free_port());
    command.env_remove("ANNALS_CLICKHOUSE_READER_PASSWORD");
    let words = refusal(command);
    assert!(
        words.contains("ANNALS_CLICKHOUSE_READER_PASSWORD is not set"),
        "{words}"
    );
}

#[test]
fn a_folder_in_use_is_refused_with_its_owner_and_a_lock_left_by_a_crash_is_no_obstacle() {
    let folder = tempfile::tempdir().expect("there is room");
    let first = Running::start(folder.path());
    let words = refusal(launcher(&library(), folder.path(), free_port()));
    assert!(words.contains("is in use by process"), "{words}");
    assert!(words.contains(&first.child.id().to_string()), "{words}");

    assert!(curl(first.port, "CREATE DATABASE kept").status.success());
    drop(first); // SIGKILL
    let second = Running::start(folder.path());
    let databases = curl(second.port, "SHOW DATABASES");
    assert!(String::from_utf8_lossy(&databases.stdout).contains("kept"));
}

#[test]
fn sigterm_lets_a_running_statement_finish() {
    let folder = tempfile::tempdir().expect("there is room");
    let mut engine = Running::start(folder.path());
    let port = engine.port;
    let statement =
        std::thread::spawn(move || curl(port, "SELECT 'finished', sum(sleepEachRow(1)) FROM numbers(2)"));
    let running =
        "SELECT count() FROM system.processes WHERE query LIKE '%finished%' AND query NOT LIKE '%processes%'";
    let deadline = Instant::now() + Duration::from_secs(10);
    while curl(port, running).stdout != b"1\n" {
        assert!(
            Instant::now() < deadline,
            "the statement did not begin within 10 s"
        );
    }
    engine.signal("TERM");
    assert!(
        engine.child.wait().expect("it was started").success(),
        "a wished end is no failure"
    );
    let answer = statement.join().expect("curl ended");
    assert!(
        String::from_utf8_lossy(&answer.stdout).starts_with("finished"),
        "{answer:?}"
    );
}
