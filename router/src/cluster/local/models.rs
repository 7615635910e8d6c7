//! Models of the registry of sessions, for loom: it runs each under every order in which the threads can meet.
//! `cargo xtask loom` runs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::sync::atomic::AtomicBool;
use roost_wire::UserId;
use roost_wire::link::SessionKey;

use super::Local;
use crate::lock::explore;

const KEY: fn(u32) -> SessionKey = |slot| SessionKey::new(0, slot, 0);

#[test]
fn a_push_reaches_a_session_behind_its_welcome_or_the_welcome_says_that_something_was_missed() {
    explore(3, || {
        let (local, ada) = (Arc::new(Local::default()), UserId::from_bits(1));
        local.register(&ada, "phone", KEY(1), None, || {});
        let welcomed = Arc::new(AtomicBool::new(false));
        let pushers: Vec<_> = (0..2)
            .map(|_| {
                let (local, ada, welcomed) = (local.clone(), ada.clone(), welcomed.clone());
                loom::thread::spawn(move || {
                    let mut sessions = Vec::new();
                    local.reach(&ada, &mut sessions);
                    assert!(sessions.is_empty() || welcomed.load(Relaxed), "a push came before WELCOME");
                    sessions.len()
                })
            })
            .collect();
        let mut missed = false;
        let accepted = local.accept(&ada, KEY(1), |told| {
            missed = told;
            welcomed.store(true, Relaxed);
        });
        assert!(accepted);
        let reached: usize = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
        assert_eq!(missed, reached < 2, "{reached} of 2 pushes came, and the session knows of a loss: {missed}");
    });
}

#[test]
fn comings_and_goings_of_a_user_are_told_in_turn() {
    explore(2, || {
        let (local, ada) = (Arc::new(Local::default()), UserId::from_bits(1));
        let online = Arc::new(AtomicUsize::new(0));
        let devices: Vec<_> = [("phone", KEY(1)), ("laptop", KEY(2))]
            .map(|(device, key)| {
                let (local, ada, online) = (local.clone(), ada.clone(), online.clone());
                loom::thread::spawn(move || {
                    local.register(&ada, device, key, None, || {
                        assert_eq!(online.fetch_add(1, Relaxed), 0, "came twice");
                    });
                    local.remove(&ada, key, || {
                        assert_eq!(online.fetch_sub(1, Relaxed), 1, "went twice");
                    });
                })
            })
            .into();
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert_eq!(online.load(Relaxed), 0);
        assert!(!local.is_online(&ada), "a session stayed behind");
    });
}

#[test]
fn of_two_sessions_of_one_device_one_is_replaced_and_never_accepted_afterwards() {
    explore(3, || {
        let (local, ada) = (Arc::new(Local::default()), UserId::from_bits(1));
        let sessions: Vec<_> = [1, 2]
            .map(|slot| {
                let (local, ada) = (local.clone(), ada.clone());
                loom::thread::spawn(move || {
                    let replaced = local.register(&ada, "phone", KEY(slot), None, || {}).replaced;
                    (replaced, local.accept(&ada, KEY(slot), |_| {}))
                })
            })
            .into();
        let told: Vec<_> = sessions.into_iter().map(|session| session.join().unwrap()).collect();
        let replaced: Vec<SessionKey> = told.iter().filter_map(|(replaced, _)| *replaced).collect();
        assert_eq!(replaced.len(), 1, "the second one hears of the first");
        let mut reached = Vec::new();
        local.reach(&ada, &mut reached);
        assert_eq!(reached.len(), 1);
        assert_ne!(reached[0], replaced[0], "who was replaced is reached no more");
    });
}
