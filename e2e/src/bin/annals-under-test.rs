//! The `annals` binary again: Cargo shows an integration test only the programs of its own package.

fn main() -> std::process::ExitCode {
    cli::main()
}
