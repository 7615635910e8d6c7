//! Settings of a router.

use std::time::Duration;

/// Who may publish to channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishPolicy {
    /// Every user.
    #[default]
    Anyone,
    /// Nobody but who calls the HTTP API with a service token.
    Service,
}

/// Settings of a router. Every limit has its unit in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Up to this many members every member's index row is raised with each message, and receipts are pushed; above
    /// it only the conversation's head moves.
    pub index_threshold: usize,
    /// Up to this many members a message is addressed to sessions; above it to a topic that sessions have joined.
    pub interest_threshold: usize,
    /// Conversations kept in memory. Busy ones may go above it.
    pub conversations_cached_max: usize,
    /// Entries of which a cached conversation remembers who sent them under which cmid.
    pub recent_entries_max: usize,
    /// Entries that are read back for a resend that does not say what the client had seen.
    pub resend_entries_max: usize,
    /// Entries that are read back for a resend that does say it. Further back the answer is 502.
    pub resend_seen_entries_max: usize,
    /// Whether anybody may enter with a name only.
    pub guests: bool,
    /// How long a guest's token lives.
    pub guest_token_ttl: Duration,
    /// Who may publish.
    pub publish: PublishPolicy,
    /// Commands waiting at one conversation. Above it the answer is 503.
    pub appends_queued_max: usize,
    /// Commands waiting at all conversations together.
    pub appends_queued_total_max: usize,
    /// Reads and other commands outside of a conversation's queue that are under way at once.
    pub tasks_max: usize,
    /// After this a store that has not answered counts as failed; of a write the outcome is then unknown.
    pub store_timeout: Duration,
    /// Marks of reading and delivery are written this long after the first of them came.
    pub marks_flush_after: Duration,
    /// Or as soon as this many wait.
    pub marks_flush_count: usize,
    /// Marks that may wait. Above it an ACK is dropped and a READ refused with 503.
    pub marks_pending_max: usize,
    /// A change of presence is told if it still holds after this time.
    pub presence_debounce: Duration,
    /// Times of last presence are written this long after the first of them came.
    pub last_seen_flush_after: Duration,
    /// Users whose last presence may wait to be written. Above it the oldest times are not written.
    pub last_seen_pending_max: usize,
    /// A session's TYPING in one conversation is passed on once in this time.
    pub typing_interval: Duration,
    /// Users whose list of groups is kept in memory, for `fresh` and SYNC.
    pub users_cached_max: usize,
    /// Most members of a group.
    pub members_max: usize,
    /// With other nodes on the same store: what is known of a group's members counts this long without a look at the
    /// store. Whoever was removed on another node reads through this one for at most so long.
    pub roster_lease: Duration,
    /// A parcel of another node that is missing this long after a later one came is lost.
    pub gap_after: Duration,
    /// Another node that says nothing this long is silent: what it did last is in doubt, its users count as gone.
    pub silent_after: Duration,
    /// Sessions are told of doubts about other nodes once in this time.
    pub doubt_interval: Duration,
    /// Parcels of one node that are remembered behind a missing one. Above it that one is lost.
    pub parcels_ahead_max: usize,
    /// Users on other nodes that are remembered. Above it they look offline from here.
    pub users_elsewhere_max: usize,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            index_threshold: 16,
            interest_threshold: 512,
            conversations_cached_max: 100_000,
            recent_entries_max: 64,
            resend_entries_max: 1024,
            resend_seen_entries_max: 65_536,
            guests: true,
            guest_token_ttl: Duration::from_secs(30 * 24 * 3600),
            publish: PublishPolicy::Anyone,
            appends_queued_max: 4096,
            appends_queued_total_max: 200_000,
            tasks_max: 16_384,
            store_timeout: Duration::from_secs(10),
            marks_flush_after: Duration::from_millis(25),
            marks_flush_count: 1024,
            marks_pending_max: 200_000,
            presence_debounce: Duration::from_millis(500),
            last_seen_flush_after: Duration::from_secs(2),
            last_seen_pending_max: 200_000,
            typing_interval: Duration::from_millis(500),
            users_cached_max: 50_000,
            members_max: roost_wire::limits::MEMBERS_MAX,
            roster_lease: Duration::from_secs(2),
            gap_after: Duration::from_millis(500),
            silent_after: Duration::from_secs(5),
            doubt_interval: Duration::from_secs(1),
            parcels_ahead_max: 4096,
            users_elsewhere_max: 4_000_000,
        }
    }
}
