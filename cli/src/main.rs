//! The program: every store of this build.

fn main() -> std::process::ExitCode {
    walport::run(walport::registry())
}
