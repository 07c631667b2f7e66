//! Unique names. They are injected, so that tests can repeat a run.

use uuid::Uuid;

/// Generates the names of attempts, state parts and staged files.
///
/// Tests inject a seeded one (`testing`), so that a run repeats name by name.
/// Nothing else in the engine may be random.
pub trait Ids: Send + Sync + 'static {
    /// An id that is unique across all machines and all time.
    fn unique(&self) -> Uuid;
}

/// Random ids of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one door to the machine's randomness"
    )]
    fn unique(&self) -> Uuid {
        Uuid::new_v4()
    }
}
