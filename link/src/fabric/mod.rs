//! The way down from a router: to the edge of its own process, to edges that are attached, and to callers of the API.
//!
//! To the router all of them are shards. The edge of this process has the first ones, the API the one behind them, and
//! each attached edge a range of its own while it is attached. A range rests before another edge gets it, so that what
//! was meant for the one that went reaches nobody; the same edge may have it again at once.

mod calls;
mod merge;
mod port;
mod ranges;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use roost_edge::EdgeHandle;
use roost_router::Downstream;
use roost_router::metrics::Snapshot;
use roost_wire::UserId;
use roost_wire::link::{Down, SessionKey};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::LinkConfig;
use crate::metrics::RouterMetrics;
pub(crate) use calls::{Call, Calls};
pub(crate) use port::{Next, Port};
use ranges::Ranges;

/// All shards that a router knows. Cheap to read from any thread.
pub struct Fabric {
    local: Option<EdgeHandle>,
    /// Shards of the local edge.
    locals: u16,
    pub(crate) calls: Calls,
    pub(crate) config: LinkConfig,
    pub(crate) metrics: RouterMetrics,
    attached: RwLock<Arc<Attached>>,
    ranges: Mutex<Ranges>,
    /// Sessions that were accepted for an edge that had gone.
    orphans: mpsc::UnboundedSender<Orphan>,
    found: Mutex<Option<mpsc::UnboundedReceiver<Orphan>>>,
}

/// A session without an edge.
pub(crate) type Orphan = (SessionKey, UserId);

/// Who has which shards at the moment.
#[derive(Default)]
struct Attached {
    /// By shard; shorter than the highest number if the last ones are vacant.
    ports: Vec<Option<Arc<Port>>>,
    /// The shards that are not vacant, in rising order; without that of calls, which joins no topic.
    live: Vec<u16>,
}

impl Fabric {
    /// For a router whose process has this edge, if any.
    #[must_use]
    pub fn new(local: Option<EdgeHandle>, config: LinkConfig) -> Arc<Self> {
        let locals = local.as_ref().map_or(0, EdgeHandle::shards).min(SessionKey::SHARDS_MAX - 1);
        let (orphans, found) = mpsc::unbounded_channel();
        let attached = Attached { ports: Vec::new(), live: (0..locals).collect() };
        Arc::new(Self {
            local,
            locals,
            calls: Calls::new(locals, config.calls_max),
            metrics: RouterMetrics::default(),
            attached: RwLock::new(Arc::new(attached)),
            ranges: Mutex::new(Ranges::new(locals + 1..SessionKey::SHARDS_MAX, config.range_rest)),
            config,
            orphans,
            found: Mutex::new(Some(found)),
        })
    }

    /// What edges, links and calls are counted.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        self.metrics.edges.set(self.ports().len());
        self.metrics.snapshot()
    }

    /// Sessions that were accepted too late. `None` if somebody took them over before.
    pub(crate) fn orphans(&self) -> Option<mpsc::UnboundedReceiver<Orphan>> {
        self.found.lock().take()
    }

    /// Gives `shards` shards to an edge. `None`: there are not so many together.
    pub(crate) fn attach(&self, name: crate::NodeName, shards: u16) -> Option<Arc<Port>> {
        let base = self.ranges.lock().take(shards, &name, Instant::now())?;
        let port = Arc::new(Port::new(name, base, shards, &self.config));
        self.change(|ports| ports.push(Arc::clone(&port)));
        Some(port)
    }

    /// The edge of `port` is gone. Again is no error.
    pub(crate) fn detach(&self, port: &Arc<Port>) {
        self.change(|ports| ports.retain(|other| !Arc::ptr_eq(other, port)));
        port.close();
    }

    /// The router knows no more of the sessions of a port that was detached. To be called once.
    pub(crate) fn rest(&self, port: &Port) {
        self.ranges.lock().rest(port.shards(), port.name().clone(), Instant::now());
    }

    /// Who is attached.
    pub(crate) fn ports(&self) -> Vec<Arc<Port>> {
        let attached = self.attached.read().clone();
        let mut ports: Vec<Arc<Port>> = attached.ports.iter().flatten().cloned().collect();
        ports.dedup_by(|one, other| Arc::ptr_eq(one, other));
        ports
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Port>>)) {
        let mut attached = self.attached.write();
        let mut ports: Vec<Arc<Port>> = attached.ports.iter().flatten().cloned().collect();
        ports.dedup_by(|one, other| Arc::ptr_eq(one, other));
        change(&mut ports);
        let mut next = Attached { ports: Vec::new(), live: (0..self.locals).collect() };
        ports.sort_unstable_by_key(|port| port.shards().start);
        for port in ports {
            let range = port.shards();
            next.ports.resize(range.end.into(), None);
            next.ports[usize::from(range.start)..].fill(Some(port));
            next.live.extend(range);
        }
        *attached = Arc::new(next);
    }

    /// What was meant for a vacant shard.
    fn vacant(&self, batch: &mut Vec<Down>) {
        for down in batch.drain(..) {
            if let Down::Accepted { session, user, .. } = down {
                // As a shard does for a session that it does not know. Not from here: locks are held.
                self.metrics.orphans.add(1);
                let _ = self.orphans.send((session, user));
            }
        }
    }
}

impl Downstream for Fabric {
    fn shards(&self) -> u16 {
        SessionKey::SHARDS_MAX
    }

    fn for_each_shard(&self, visit: impl FnMut(u16)) {
        let attached = self.attached.read().clone();
        attached.live.iter().copied().for_each(visit);
    }

    fn post(&self, shard: u16, batch: &mut Vec<Down>) {
        self.post_all(&mut [(shard, std::mem::take(batch))]);
    }

    fn post_all(&self, batches: &mut [(u16, Vec<Down>)]) {
        // Nodes without attached edges need not look who is.
        let mut attached = None;
        let mut rest = &mut *batches;
        while let Some((shard, batch)) = rest.first_mut() {
            let mut done = 1;
            if *shard < self.locals {
                if let Some(edge) = &self.local {
                    edge.post(*shard, batch);
                }
            } else if *shard == self.locals {
                self.calls.post(batch);
            } else {
                let attached = attached.get_or_insert_with(|| self.attached.read().clone());
                match attached.ports.get(usize::from(*shard)).and_then(Option::as_ref) {
                    None => self.vacant(batch),
                    Some(port) => {
                        // All that is for one edge goes in at once, so that what is the same crosses once.
                        let range = port.shards();
                        done = rest.iter().take_while(|(shard, _)| range.contains(shard)).count();
                        let (dropped, accepted) = port.post(&mut rest[..done]);
                        self.metrics.down_dropped.add(dropped);
                        for orphan in accepted {
                            self.metrics.orphans.add(1);
                            let _ = self.orphans.send(orphan);
                        }
                    }
                }
            }
            rest = &mut std::mem::take(&mut rest)[done..];
        }
    }
}

#[cfg(test)]
mod tests {
    use roost_wire::CloseCode;
    use roost_wire::link::{Audience, Envelope, Lane};
    use roost_wire::{FrameBody, pb};

    use super::*;
    use crate::NodeName;

    fn accepted(session: SessionKey) -> Down {
        Down::Accepted { session, rid: 1, user: UserId::from_bits(7), welcome: Box::default() }
    }

    fn edge(incarnation: u64) -> NodeName {
        NodeName { node: "edge".into(), incarnation }
    }

    #[test]
    fn a_session_that_is_accepted_for_nobody_is_found() {
        let fabric = Fabric::new(None, LinkConfig::default());
        let mut found = fabric.orphans().unwrap();
        assert!(fabric.orphans().is_none(), "one looks after them");
        let port = fabric.attach(edge(1), 2).unwrap();
        let shard = port.shards().start;
        let [closed, vacant] = [shard, shard + 2].map(|shard| SessionKey::new(shard, 1, 0));
        fabric.post(shard, &mut vec![accepted(closed)]);
        assert!(found.try_recv().is_err(), "it has an edge");
        port.close();
        fabric.post(shard, &mut vec![Down::Doubt, accepted(closed)]);
        assert_eq!(found.try_recv().map(|(session, _)| session), Ok(closed));
        fabric
            .post(vacant.shard(), &mut vec![accepted(vacant), Down::Close { session: vacant, code: CloseCode::Drain }]);
        assert_eq!(found.try_recv().map(|(session, _)| session), Ok(vacant));
        assert!(found.try_recv().is_err());
    }

    #[test]
    fn shards_are_those_that_somebody_has() {
        let fabric = Fabric::new(None, LinkConfig::default());
        let shards = || {
            let mut shards = Vec::new();
            fabric.for_each_shard(|shard| shards.push(shard));
            shards
        };
        assert!(shards().is_empty());
        let [one, two, three] = [1, 2, 3].map(|incarnation| fabric.attach(edge(incarnation), 2).unwrap());
        assert_eq!(shards(), [1, 2, 3, 4, 5, 6], "0 is for calls");
        fabric.detach(&two);
        assert_eq!(shards(), [1, 2, 5, 6]);
        assert_eq!(fabric.ports().len(), 2);
        fabric.rest(&two);
        assert_eq!(fabric.attach(edge(4), 2).unwrap().shards(), 7..9, "it rests");
        assert_eq!(fabric.attach(edge(2), 2).unwrap().shards(), 3..5, "but not for its own edge");
        assert!(fabric.attach(edge(5), 1016).is_none());
        assert_eq!((one.shards(), three.shards()), (1..3, 5..7));
    }

    #[test]
    fn above_the_limits_pushes_are_dropped_and_nothing_else() {
        let config = LinkConfig { down_items_max: 3, down_bytes_max: 100_000, ..LinkConfig::default() };
        let fabric = Fabric::new(None, config);
        let port = fabric.attach(edge(1), 1).unwrap();
        let session = SessionKey::new(port.shards().start, 1, 0);
        let push = |bytes: usize| {
            let body = Some(pb::Body { text: "x".repeat(bytes), event: None });
            let envelope = Envelope::new(Lane::Durable, FrameBody::Entry(pb::Entry { body, ..pb::Entry::default() }));
            Down::Deliver { envelope, audience: Audience::Sessions([session].into()) }
        };
        let extend = || Down::Extend { session, expires: 1 };
        fabric.post(session.shard(), &mut vec![push(60_000), push(60_000), push(1), extend(), extend(), push(1)]);
        assert_eq!(fabric.metrics().get("roost_link_down_dropped_total"), Some(2.0), "too large, and too many");
        let Next::Batch(batch) = port.next() else { panic!("there is something") };
        assert_eq!(batch.items.iter().filter(|item| item.is_push()).count(), 2);
        assert_eq!(batch.items.len(), 5, "and a doubt");
        assert!(matches!(port.next(), Next::Wait), "told once");
        fabric.post(session.shard(), &mut vec![push(90_000)]);
        assert!(matches!(port.next(), Next::Batch(batch) if batch.items.len() == 1), "there is room again");
    }
}
