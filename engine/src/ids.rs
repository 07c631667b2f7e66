//! Unique names, injected: the only door to the machine's randomness.

use uuid::Uuid;

/// Where the names of attempts, of state parts and of staged files come from.
///
/// Tests inject a seeded one (`testing`), so that a run can be repeated name by
/// name; nothing else in the engine may be random.
pub trait Ids: Send + Sync + 'static {
    /// An id that nobody has had and nobody will get, on any machine.
    fn unique(&self) -> Uuid;
}

/// The machine's randomness.
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
