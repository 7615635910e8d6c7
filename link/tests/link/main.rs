//! Real edges and real routers, joined by gRPC over loopback, in one process. A router that is killed loses its runtime:
//! its sockets close as those of a killed process do.

mod api;
mod deliveries;
mod failover;
mod greeting;
mod harness;
mod limits;
mod raw;
