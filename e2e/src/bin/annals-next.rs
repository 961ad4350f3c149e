//! The `annals` binary of the next release, which knows one event version more: see the feature `next-event`.

fn main() -> std::process::ExitCode {
    cli::main()
}
