//! A Walport of one's own: every store of the build, and the notes.
fn main() -> std::process::ExitCode {
    walport::run(walport::registry().with(walport_notes::BACKEND))
}
