//! What an operator may set of the embedded store, with its defaults.

/// Settings of the embedded store. The defaults suit an edge with some ten thousand users on one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Bytes of disk blocks kept in memory for reads.
    pub block_cache_bytes: u64,
    /// Bytes of recent writes that a table keeps in memory before they go to disk. The log and the index have this
    /// much each, the smaller tables a quarter. Up to four of these may wait for the disk. Takes effect when the
    /// data directory is made.
    pub memtable_bytes: u64,
    /// Threads that write out and merge tables.
    pub worker_threads: usize,
    /// Writes are refused as [`crate::StoreError::DiskFull`] while the disk has fewer free bytes than this. The
    /// engine itself does not recover from a full disk, so that it must not meet one.
    pub disk_reserve_bytes: u64,
    /// Bytes of table files whose checksums are compared when the store is opened, the newest files first. The
    /// rest is compared block by block when it is read, and by `roost store check`.
    pub verify_bytes_max: u64,
    /// Writes that may wait for the writer; more are refused as [`crate::StoreError::Unavailable`].
    pub queue_requests_max: usize,
    /// Bytes of entries that may wait for the writer.
    pub queue_bytes_max: usize,
    /// Different marks, as (user, conversation), that may wait for the writer.
    pub queue_marks_max: usize,
    /// Most milliseconds that marks of delivery wait for a commit to ride along with.
    pub marks_wait_ms: u32,
    /// Conversations whose meta data the writer remembers.
    pub metas_cached_max: usize,
    /// Index rows that the writer remembers.
    pub rows_cached_max: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 32 * 1024 * 1024,
            memtable_bytes: 8 * 1024 * 1024,
            worker_threads: 1,
            disk_reserve_bytes: 256 * 1024 * 1024,
            verify_bytes_max: 1024 * 1024 * 1024,
            queue_requests_max: 16 * 1024,
            queue_bytes_max: 64 * 1024 * 1024,
            queue_marks_max: 64 * 1024,
            marks_wait_ms: 20,
            metas_cached_max: 16 * 1024,
            rows_cached_max: 32 * 1024,
        }
    }
}
