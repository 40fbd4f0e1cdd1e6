//! The one test that a store out of tree needs.
use walport_conformance::{Subject, Unfit, check};
#[test]
fn notes_can_be_trusted_with_backups() -> Result<(), Unfit> {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("note://{}", folder.path().display());
    check(Subject::new("notes", move || {
        let notes = walport_notes::Notes::open(&url);
        Box::pin(async { Ok(std::sync::Arc::new(notes?) as _) })
    }))
}
