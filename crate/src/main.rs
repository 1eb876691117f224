//! The native command line.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    tabreel::cli::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {}
