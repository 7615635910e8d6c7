//! What every driver must do, one function per rule. A driver joins by a [`harness::Harness`] and one line below.

#[path = "../edge/quic/certificates.rs"]
mod certificates;
mod harness;
mod quic;
mod rules;
mod sockets;
mod tls;
#[cfg(target_os = "linux")]
mod uring;

/// Makes every rule a test of the driver behind `$harness`; with names behind it, those instead of the last two.
macro_rules! conforms {
    (@tests $harness:ty: $($rule:ident,)+) => {
        $(#[test] fn $rule() { crate::rules::$rule::<$harness>(); })+
    };
    ($module:ident, $harness:ty $(,)?) => {
        conforms!($module, $harness, [
            a_refused_connection_hears_the_answer,
            a_sleep_without_events_ends_with_its_timeout,
        ]);
    };
    ($module:ident, $harness:ty, [$($more:ident,)*]) => {
        mod $module {
            conforms!(@tests $harness:
                bytes_arrive_whole_in_order_and_before_the_end,
                a_paused_connection_is_not_read_and_loses_nothing,
                a_resumed_connection_is_read_without_a_new_event,
                a_half_closed_connection_that_is_kept_can_be_written_to,
                a_reset_is_told_after_a_half_close,
                a_reset_is_told,
                a_reset_is_told_while_paused,
                what_does_not_fit_goes_out_when_there_is_room,
                many_frames_leave_in_order,
                a_fat_peer_does_not_starve_a_thin_one,
                calls_for_stale_keys_do_nothing,
                a_slot_used_again_hears_nothing_of_the_old_connection,
                closing_does_not_take_back_what_was_written,
                a_failed_write_lets_the_connection_go,
                one_flush_sends_to_many_and_each_hears_its_own,
                what_is_offered_twice_is_sent_once,
                frames_live_until_they_are_sent,
                a_send_that_outlives_its_connection_counts_for_nobody,
                the_waker_ends_the_sleep,
                what_arrives_while_it_gathers_is_delivered_in_one_turn,
                a_wake_up_while_bytes_are_moved_ends_the_next_sleep,
                connections_are_counted,
                $($more,)*
            );
        }
    };
}

conforms!(poll_driver, crate::sockets::Loopback<roost_edge::driver::poll::PollDriver>);
// With connections it accepts, which have no descriptors.
#[cfg(target_os = "linux")]
conforms!(uring_driver, crate::uring::Accepting);
// With connections that somebody else made.
#[cfg(target_os = "linux")]
conforms!(uring_driver_given_sockets, crate::sockets::Loopback<roost_edge::driver::uring::UringDriver>);
// With connections that are spread over several rings.
#[cfg(target_os = "linux")]
conforms!(uring_driver_of_many_rings, crate::uring::ManyRings);

// With TLS between the driver and its sink.
conforms!(tls_over_poll, crate::tls::Secure<crate::sockets::Loopback<roost_edge::driver::poll::PollDriver>>);
#[cfg(target_os = "linux")]
conforms!(tls_over_uring, crate::tls::Secure<crate::uring::Accepting>);
// With plain connections where others speak TLS.
conforms!(
    plain_beside_tls_over_poll,
    crate::tls::Plain<crate::sockets::Loopback<roost_edge::driver::poll::PollDriver>>,
);
#[cfg(target_os = "linux")]
conforms!(plain_beside_tls_over_uring, crate::tls::Plain<crate::uring::Accepting>);
// A sleep may end sooner, since it has timers of its own; who is refused is told a code and no bytes.
conforms!(quic_driver, crate::quic::Quinn, []);
