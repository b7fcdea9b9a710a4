//! Deliberate bugs, each at the boundary of a port: what the simulator must find.

use slipway_ports::Arrivals;

use crate::check::Invariant;

/// A deliberate bug. It is planted in a simulated port, so that the control plane's own code stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Every guarded write wins: terminal records are written over.
    IgnoreGuards,
    /// A session settles although half of its messages were lost.
    ForgetSends,
    /// Messages go out before what they tell of is durable.
    PublishBeforeCommit,
    /// A session is settled before it is durable, so that effects come before their claims.
    EffectBeforeCommit,
    /// A message is acknowledged before it is dealt with.
    AcknowledgeBeforeHandling,
    /// An arrival counts for the next slot, too.
    ArriveTwice,
    /// Helm goes on when its parent is gone.
    HelmOutlivesParent,
    /// The record of a first install is marked failed instead of deleted.
    MarkFirstInstallFailed,
    /// Some events never get to their topic.
    DropEvents,
    /// The sweep never comes.
    SkipSweep,
    /// Uninstalling deletes volume claims.
    DeleteClaims,
    /// Uninstalling says that all is gone while finalizers still keep objects.
    UninstallLies,
    /// Everything is said to be ready at once.
    ReadyTooEarly,
    /// A hook's run is begun again although it is there.
    HookAgain,
    /// Leases of releases look expired: a lease that is shorter than an invocation.
    ShortLease,
    /// What a message was about that failed for the last time is left as it is.
    NeverGiveUp,
    /// A machine that slept takes a lease that is over by the clock from an invocation of its own that woke up with it.
    SleepersAreForgotten,
    /// A look at a release writes to it.
    LooksTouch,
    /// A source of charts panics where it should refuse.
    ChartsPanic,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Self; 19] = [
        Self::IgnoreGuards,
        Self::ForgetSends,
        Self::PublishBeforeCommit,
        Self::EffectBeforeCommit,
        Self::AcknowledgeBeforeHandling,
        Self::ArriveTwice,
        Self::HelmOutlivesParent,
        Self::MarkFirstInstallFailed,
        Self::DropEvents,
        Self::SkipSweep,
        Self::DeleteClaims,
        Self::UninstallLies,
        Self::ReadyTooEarly,
        Self::HookAgain,
        Self::ShortLease,
        Self::NeverGiveUp,
        Self::SleepersAreForgotten,
        Self::LooksTouch,
        Self::ChartsPanic,
    ];

    /// What breaks by it.
    #[must_use]
    pub fn breaks(self) -> &'static [Invariant] {
        use Invariant as I;
        match self {
            Self::IgnoreGuards => &[I::TerminalStatesNeverChange, I::LiveClaimsAreRespected],
            Self::ForgetSends => &[I::EverythingEnds, I::EveryEndIsTold],
            Self::PublishBeforeCommit => &[I::EventsAgreeWithTheStore],
            Self::EffectBeforeCommit => &[I::NoEffectWithoutCommittedIntention],
            Self::AcknowledgeBeforeHandling | Self::DropEvents | Self::NeverGiveUp => &[I::EveryEndIsTold],
            Self::ArriveTwice => &[I::AnExecutionEndsAsItsStepsDid, I::StepsWaitForTheirDependencies],
            Self::HelmOutlivesParent => &[I::OneWriterPerRelease],
            Self::MarkFirstInstallFailed => &[I::TheClusterIsAccountedFor, I::OneDeployedRevisionPerIntent],
            Self::SkipSweep => &[I::EverythingEnds],
            Self::DeleteClaims => &[I::ClaimsAreNeverDeleted],
            Self::UninstallLies | Self::ReadyTooEarly => &[I::AJobTellsTheTruth],
            Self::HookAgain => &[I::AHookRunsOnce],
            Self::ShortLease => &[I::LiveClaimsAreRespected],
            Self::SleepersAreForgotten => &[I::AFencedOutWriterChangesNothing, I::OneWriterPerRelease],
            Self::LooksTouch => &[I::LooksChangeNothing],
            Self::ChartsPanic => &[I::NothingPanics],
        }
    }

    /// The slot that an arrival counts for as well.
    pub(crate) fn second_slot(self, slot: u8, before: Arrivals) -> Option<u8> {
        let next = slot.checked_add(1).filter(|next| *next < 32)?;
        let is_free = (before.ok | before.bad) & (1 << next) == 0;
        (self == Self::ArriveTwice && is_free).then_some(next)
    }
}
