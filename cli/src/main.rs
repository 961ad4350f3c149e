//! The `annals` binary; everything is in the library beside it, so that tests can run it too.

/// Faster than the system's where many threads allocate and free small things, and it gives memory back sooner.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
