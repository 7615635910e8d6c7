//! A session coming in: upgrade, CONNECT with a token, WELCOME; everything but the system calls.

use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roost_benches::node::Node;
use roost_router::auth::{Claims, Keys, Scope};
use roost_router::{Env, SystemEnv};
use roost_wire::UserId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn verify(c: &mut Criterion) {
    let keys = Keys::new(&[1; 32]);
    let now_ms = SystemEnv.now_ms();
    let token = keys.mint(&Claims::new(UserId::from_bits(1), "Ada Lovelace", Scope::User, now_ms, 3600));
    let mut group = c.benchmark_group("router/auth");
    group.throughput(Throughput::Elements(1));
    group.bench_function("verify", |b| b.iter(|| keys.verify(&token, now_ms)));
    group.finish();
}

fn enter(c: &mut Criterion) {
    let tokens = Node::new();
    let mut group = c.benchmark_group("node/enter");
    group.throughput(Throughput::Elements(1));
    group.bench_function("token", |b| {
        b.iter_custom(|times| {
            // They stay, as on a node that fills up.
            let mut node = Node::new();
            let hellos = |number| Node::hellos(tokens.token(number, "Ada Lovelace"));
            let mut hellos: Vec<_> = (0..times as u32).map(hellos).collect();
            let began = Instant::now();
            for hellos in &mut hellos {
                node.enter(hellos);
            }
            began.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, verify, enter);
criterion_main!(benches);
